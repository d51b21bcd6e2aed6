"""Means over the steps since the last evaluation, and the alarm, from numbers that are given."""

import numpy as np
import pytest

from bihm.errors import NumbersError
from bihm.machine.rules import Info
from bihm.machine.training_step import ChunkInfo, StepInfo
from bihm.run.training.step_sums import StepSums

PARAMS = {"b": np.zeros(2, np.float32), "w": np.zeros((2, 3), np.float32)}


def chunk(loss, gradient=1.0):
    loss = np.asarray(loss, np.float32)
    estimates = Info(*(loss + i for i in (1, 2, 3, 4)))
    grads = [np.full(8, gradient, np.float32)]  # both arrays are small, so packed in one
    return ChunkInfo(StepInfo(loss, 10 * loss, estimates), grads)


def test_means_are_over_steps_and_those_of_gradients_over_chunks_by_their_length():
    sums = StepSums(PARAMS, {}, 0)
    sums.add(0, chunk([1.0, 2.0, 3.0], gradient=2.0))
    sums.add(3, chunk([6.0], gradient=-6.0))
    gradient = (3 * 2.0 + 6.0) / 4
    assert sums.take() == pytest.approx(
        {
            "train/loss": 3.0, "train/grad_norm": 30.0, "train/log_p": 4.0,
            "train/log_p_tilde_star": 5.0, "train/ess_p": 6.0, "train/ess_p_star": 7.0,
            "grad_norm/b": gradient * 2**0.5, "grad_norm/w": gradient * 6**0.5,
        }
    )  # fmt: skip
    sums.add(4, chunk([8.0]))
    again = sums.take()
    assert (again["train/loss"], again["grad_norm/b"]) == pytest.approx((8.0, 2**0.5))


def test_sums_go_on_from_those_of_a_checkpoint_and_leave_these_alone():
    saved = {"train/loss": 10.0, "grad_norm/b": 6.0}
    sums = StepSums(PARAMS, saved, 2)
    sums.add(2, chunk([2.0]))
    sums.settle()
    assert sums.steps == 3
    assert sums.totals["train/loss"] == 12.0
    sums.settle()  # nothing waits any more
    assert sums.steps == 3
    means = sums.take()
    assert means["train/loss"] == 4.0
    assert means["grad_norm/b"] == pytest.approx((6 + 2**0.5) / 3)
    assert saved == {"train/loss": 10.0, "grad_norm/b": 6.0}
    assert (sums.totals, sums.steps) == ({}, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_told_one_chunk_late_with_its_step(value):
    sums = StepSums(PARAMS, {}, 0)
    sums.add(5, chunk([1.0, value, value]))
    with pytest.raises(NumbersError, match=rf"train/loss is {value} at step 7"):
        sums.add(8, chunk([1.0]))
