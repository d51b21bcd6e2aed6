"""What TensorBoard shows beside curves: which pictures and distributions, and that they cost little."""

import io
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states
from PIL import Image
from small_run import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_machine import tiny_machine

from bihm.machine.machine import split
from bihm.records.logbook import Logbook
from bihm.run.build import first_state, make_run
from bihm.run.estimates.splits import weights_of_some
from bihm.run.families import looks
from bihm.run.load import read_run
from bihm.run.train import train
from bihm.run.training import images

SIGMAS = 5


def events_of(directory, share):
    """What TensorBoard reads of a run that may spend this share of its time on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "SHARE", share)
        train(tiny(epochs=1), directory)
    events = EventAccumulator(str(directory), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


@pytest.mark.long
def test_a_run_that_can_afford_it_shows_everything(tmp_path, caplog):
    caplog.set_level(logging.INFO, "bihm")
    events = events_of(tmp_path, 1e9)
    tags = events.Tags()
    assert sorted(tags["images"]) == [
        *("completions/first_half_given", "reconstructions", "samples/p", "samples/p_star"),
        *("weights/p_x_given_h1", "weights/q_h1_given_x"),
    ]
    assert {"log_w_less_log_p", "ess_p", "ess_p_star"} <= set(tags["tensors"])
    assert {"kl/h1", "kl/h2", "units_in_use/h1", "units_in_use/h2"} <= set(tags["scalars"])
    assert sum("units in use" in line for line in caplog.messages) == 1  # at the end
    (bins,) = events.Tensors("ess_p")
    counts = np.frombuffer(bins.tensor_proto.tensor_content, np.float64).reshape(-1, 3)
    assert counts[:, 2].sum() == 400  # rows of valid: those of a tile, 2000 / eval.K
    assert 0 <= counts[0, 0] <= counts[-1, 1] <= 1
    pairs = tiles_of(events.Images("completions/first_half_given")[-1].encoded_image_string)
    np.testing.assert_array_equal(pairs[0::2, :2], pairs[1::2, :2])  # the upper half was given
    valid = read_run(tmp_path).rows("valid")[:32].reshape(32, 4, 4)
    np.testing.assert_array_equal(pairs[0::2], 255 * valid)
    assert set(np.unique(pairs)) == {0, 255}
    rebuilt = tiles_of(events.Images("reconstructions")[-1].encoded_image_string)
    np.testing.assert_array_equal(rebuilt[0::2], 255 * valid)
    assert len(np.unique(rebuilt[1::2])) > 10  # means


def tiles_of(png):
    """The 64 images of a grid, whose bits are squares of 7 pixels, behind a line of one."""
    grid = np.asarray(Image.open(io.BytesIO(png)))
    side, gap = 4 * 7, (len(grid) - 8 * 28) // 9
    at = [gap + i * (side + gap) for i in range(8)]
    return np.array([grid[y : y + side : 7, x : x + side : 7] for y in at for x in at])


def test_a_run_that_cannot_shows_what_needs_no_program_of_its_own(tmp_path):
    tags = events_of(tmp_path, 0.0).Tags()
    assert sorted(tags["images"]) == ["samples/p", "weights/p_x_given_h1", "weights/q_h1_given_x"]
    assert "log_w_less_log_p" in tags["tensors"]
    assert not [tag for tag in tags["scalars"] if tag.startswith(("kl/", "units_in_use/"))]


class Unheard(Logbook):
    """A book that nobody writes."""

    def __init__(self):
        pass


def test_all_that_is_shown_takes_no_more_than_its_share(monkeypatch):
    """With a clock that only showing moves: of each kind the first takes longest, and small ones 0.05 s."""
    run, now, seen, at = make_run(tiny(layers=[5, 2])), [0.0], {"layers": [], "chains": []}, []

    def showing(kind, first, later):
        def show(gallery, state, rows, step, whole):
            now[0] += (later if True in seen[kind] else first) if whole else 0.05
            seen[kind].append(whole)
            return ""

        return show

    monkeypatch.setattr(images.Gallery, "_distributions", showing("layers", 1.0, 0.05))
    monkeypatch.setattr(images.Gallery, "_pictures", showing("chains", 4.0, 1.0))
    monkeypatch.setattr(images.time, "monotonic", lambda: now[0])
    state, rows = first_state(run), run.fixed_rows("valid")
    gallery = images.Gallery(Unheard(), run, 1000.0)
    gallery.note_call(3.0)  # the step's program
    gallery.note_call(500.0)  # a chunk
    for seconds in range(20, 3001, 20):
        gallery.show(state, rows, 0, 1000.0 + seconds)
        at.append(now[0] / seconds)
    assert seen["layers"].index(True) == 1  # at 40 s: 0.3 x 3 s, and 0.1 s before, are 3 % of 34 s
    assert all(seen["layers"][1:])  # once compiled it is as good as free
    assert seen["chains"].index(True) == 10  # at 220 s: 1.5 x 3 s, 2 s before: 3 % of 217 s
    assert min(sum(whole) for whole in seen.values()) > 20
    assert max(at) <= images.SHARE
    again = images.Gallery(
        Unheard(), run, 0.0
    )  # of another run of this shape: its programs are there
    again.show(state, rows, 0, 20.0)
    assert [whole[-1] for whole in seen.values()] == [True, False]
    again.show(state, rows, 0, 50.0)
    assert [whole[-1] for whole in seen.values()] == [True, True]


def test_the_weights_are_those_of_the_estimates_without_another_program():
    machine = tiny_machine("sbn", "sbn", visible=4, sizes=[3])
    structure, params = split(machine)
    log_w = weights_of_some(jax.random.key(0), structure, params, states(4)[:7], 30)
    assert log_w.shape == (30, 7)
    truth = exact(machine)
    mean, error = np.exp(log_w).mean(axis=0), np.exp(log_w).std(axis=0, ddof=1) / np.sqrt(30)
    assert (np.abs(mean - np.exp(truth.log_p[:7])) <= SIGMAS * error).all()


@pytest.mark.long
@pytest.mark.parametrize("star", [True, False])
def test_a_completion_has_not_seen_what_it_completes(star, monkeypatch):
    monkeypatch.setattr(looks, "SWEEPS", 1)  # later ones forget where the chain began
    monkeypatch.setattr(looks, "PROPOSALS", 1)
    machine = tiny_machine("sbn", "sbn", visible=4, sizes=[3, 2])
    structure, params = split(machine)
    rows = states(4)[:8].astype(np.uint8)
    other = rows ^ np.array([0, 0, 1, 1], np.uint8)  # the second half is to be completed
    parts = (jax.random.key(0), structure, params)
    shown = [{i.tag: i.rows for i in looks.pictures(*parts, x, star, True)} for x in (rows, other)]
    one, another = (found["completions/first_half_given"][1::2] for found in shown)
    np.testing.assert_array_equal(one, another)
    one, another = (found["reconstructions"][1::2] for found in shown)
    assert (one != another).any()


def test_a_layer_out_of_use_is_told():
    """Where of q(h_2 | h_1) and of p(h_2) one unit is always off, and the other always on."""
    machine = tiny_machine("sbn", "sbn", visible=4, sizes=[3, 2])
    for layer in (machine.q[1], machine.p[2]):
        layer.b[...] = jnp.asarray([-30.0, 30.0])
    machine.q[1].w[...] = jnp.zeros_like(machine.q[1].w[...])
    structure, params = split(machine)
    found = looks.distributions(jax.random.key(0), structure, params, states(4), 30, False, True)
    assert found.scalars["units_in_use/h1"] == 3
    assert found.scalars["units_in_use/h2"] == 0
    assert found.scalars["kl/h2"] == pytest.approx(0, abs=1e-6)
    nats = found.scalars["kl/h1"]
    assert found.words.endswith(f"units in use 3 of 3, 0 of 2; KL(q || p) {nats:.1f}, 0.0 nats")
