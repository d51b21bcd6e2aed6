"""Runs made together are what they are alone: numbers, files, their ends, and how they go on."""

import threading

import jax
import numpy as np
import pytest
from small_run import metrics, saved, tiny, without_clock

from bihm.errors import Interrupted, NumbersError
from bihm.kernels.together import Meeting
from bihm.run.train import train
from bihm.run.training import loop

pytestmark = pytest.mark.long
STEPS, LARGEST_RATE, BATCH, K = 40, 0.03, 250, 4


def config(i, **changes):
    """Runs that differ in all that may differ within a program; the fourth breaks, the sixth ends first."""
    rates = {"optim__lr": LARGEST_RATE / (1 + i % 2), "optim__l1": 1e-4 * (1 + i)}
    own = {3: {"optim__lr": 1e38}, 5: {"epochs": 1}, 6: {"init__bias": -0.5}}.get(i, {})
    more = {"optim__l2": 1e-4 * i, "seed": i, "epochs": 2, "eval__every": 1}
    return tiny(optim__name="sgd", **(rates | more | own | changes))


def together(configs, folder):
    """Train in threads that meet, each in a folder of its number; what each run raised, and the meeting."""
    meeting, ends = Meeting(len(configs), lambda: None), dict.fromkeys(configs)

    def work(i):
        with meeting.taking_part():
            try:
                train(configs[i], folder / str(i))
            except Exception as error:
                ends[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    return ends, meeting


def error_bound():
    """Of a parameter: each step, a rate times a sum of BATCH K terms, of which each is below 2 / BATCH.

    However such a sum is ordered, its rounding error is below the number of terms times 2^-24 of the sum of
    their sizes.
    """
    return STEPS * LARGEST_RATE * BATCH * K * 2.0**-24 * 2


def test_eight_runs_are_the_same_as_one_by_one(tmp_path):
    ends, meeting = together({i: config(i) for i in range(8)}, tmp_path / "together")
    assert [i for i, end in ends.items() if end is not None] == [3]
    assert isinstance(ends[3], NumbersError)
    assert meeting.sizes[0] == 8  # the training step
    for i in (0, 5, 6, 7):
        alone, here = tmp_path / str(i), tmp_path / "together" / str(i)
        train(config(i), alone)
        one, other = metrics(alone), metrics(here)
        assert [list(line) for line in one] == [list(line) for line in other]
        assert [line["step"] for line in other] == [20, 40][: 1 if i == 5 else 2]
        for a, b in zip(
            *map(jax.tree.leaves, (saved(alone).latest, saved(here).latest)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=0, atol=error_bound())
        names = {path.name for path in alone.iterdir() if not path.name.startswith("events")}
        assert names == {path.name for path in here.iterdir() if not path.name.startswith("events")}


def test_what_is_stopped_together_goes_on_alone_and_the_other_way_round(tmp_path, monkeypatch):
    whole, _ = together({i: config(i) for i in range(2)}, tmp_path / "whole")
    assert whole == {0: None, 1: None}
    original = loop.TrainingLoop.heed_signals

    def heed(running, *tiles):
        if running.step == 20:
            running.stop.signal = "SIGTERM"
        original(running)

    with monkeypatch.context() as patched:
        patched.setattr(loop.TrainingLoop, "heed_signals", heed)
        ends, _ = together({i: config(i) for i in range(2)}, tmp_path / "parts")
        assert [type(end) for end in ends.values()] == [Interrupted] * 2
        with pytest.raises(Interrupted):
            train(config(0), tmp_path / "alone" / "0")
    train(config(0), tmp_path / "parts" / "0")
    ends, _ = together({i: config(i) for i in range(2)}, tmp_path / "alone")
    assert ends == {0: None, 1: None}
    for place in ("parts", "alone"):
        a, b = (metrics(tmp_path / name / "0") for name in ("whole", place))
        for one, other in zip(without_clock(a), without_clock(b), strict=True):
            assert one == pytest.approx(other, rel=1e-3)
        for a, b in zip(
            *(jax.tree.leaves(saved(tmp_path / name / "0").latest) for name in ("whole", place)),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=0, atol=error_bound())
