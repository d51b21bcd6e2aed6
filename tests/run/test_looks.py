"""What TensorBoard shows beside curves: which pictures and distributions, and that they cost little."""

import io

import jax
import numpy as np
import pytest
from oracle import exact, states
from PIL import Image
from small_run import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_machine import tiny_machine

from bihm.machine.machine import split
from bihm.records.logbook import Logbook
from bihm.run import images
from bihm.run.build import first_state, make_run
from bihm.run.load import read_run
from bihm.run.splits import weights_of_some
from bihm.run.train import train

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
def test_a_run_that_can_afford_it_shows_everything(tmp_path):
    events = events_of(tmp_path, 1e9)
    tags = events.Tags()
    assert sorted(tags["images"]) == [
        *("completions/first_half_given", "reconstructions", "samples/p", "samples/p_star"),
        *("weights/p_x_given_h1", "weights/q_h1_given_x"),
    ]
    assert {"log_w_less_log_p", "ess_p", "ess_p_star"} <= set(tags["tensors"])
    assert {"kl/h1", "kl/h2"} <= set(tags["scalars"])
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
    assert not [tag for tag in tags["scalars"] if tag.startswith("kl/")]


class Unheard(Logbook):
    """A book that nobody writes."""

    def __init__(self):
        pass


def test_all_that_is_shown_takes_no_more_than_its_share(monkeypatch):
    """With a clock that only showing moves: 4 s for the first whole one, then 1 s, 0.1 s for small ones."""
    run, now, seen, at = make_run(tiny(layers=[5, 2])), [0.0], [], []

    def show(gallery, state, rows, step, whole):
        now[0] += (1.0 if True in seen else 4.0) if whole else 0.1
        seen.append(whole)

    monkeypatch.setattr(images.Gallery, "_show", show)
    monkeypatch.setattr(images.time, "monotonic", lambda: now[0])
    state, rows = first_state(run), run.fixed_rows("valid")
    gallery = images.Gallery(Unheard(), run)
    gallery.note_call(3.0)  # the step's program
    gallery.note_call(500.0)  # a chunk
    for seconds in range(60, 3001, 60):
        gallery.show(state, rows, 0, float(seconds))
        at.append(now[0] / seconds)
    assert seen.index(True) == 3  # at 240 s, since 2 x 3 s and 0.3 s before are 3 % of 210 s
    assert sum(seen) > 20
    assert max(at) <= images.SHARE
    again = images.Gallery(
        Unheard(), run
    )  # of another run of this shape, whose program is there already
    again.show(state, rows, 0, 30.0)
    assert not seen[-1]
    again.show(state, rows, 0, 60.0)
    assert seen[-1]


def test_the_weights_are_those_of_the_estimates_without_another_program():
    machine = tiny_machine("sbn", "sbn", visible=4, sizes=[3])
    structure, params = split(machine)
    log_w = weights_of_some(jax.random.key(0), structure, params, states(4)[:7], 30)
    assert log_w.shape == (30, 7)
    truth = exact(machine)
    mean, error = np.exp(log_w).mean(axis=0), np.exp(log_w).std(axis=0, ddof=1) / np.sqrt(30)
    assert (np.abs(mean - np.exp(truth.log_p[:7])) <= SIGMAS * error).all()
