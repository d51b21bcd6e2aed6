"""The two estimates on dreamt rows, against sums over all states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact
from tiny_machine import tiny_machine

from bihm.machine.machine import split
from bihm.machine.sandwich import sandwich_tile

SIGMAS, VISIBLE, REPEATS, ROWS = 5, 4, 20, 500


def dreams(machine, K, block):
    """Row numbers, lower and upper estimates of many dreamt rows, float64."""
    structure, params = split(machine)
    keys = jax.random.split(jax.random.key(K), REPEATS)
    found = [
        sandwich_tile(key, structure, params, jnp.asarray(K), rows=ROWS, block=block)
        for key in keys
    ]
    x, lower, upper = (np.concatenate(part).astype(np.float64) for part in zip(*found, strict=True))
    return x.astype(int) @ (1 << np.arange(VISIBLE)[::-1]), lower, upper


def error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize(("K", "block"), [(1, 2), (5, 2), (6, 2)])
def test_log_p_lies_between_the_two_in_expectation(K, block):
    """For each x: 1 / upper's mean and lower's mean are unbiased, so their logarithms bound log p."""
    machine = tiny_machine(visible=VISIBLE, sizes=[3, 2], scale=1.0)
    truth = exact(machine)
    index, lower, upper = dreams(machine, K, block)
    log_p = truth.log_p[index]
    seen = np.bincount(index, minlength=2**VISIBLE)
    rare = np.sqrt(np.exp(truth.log_p) * (1 - np.exp(truth.log_p)) / len(index))
    assert (np.abs(seen / len(index) - np.exp(truth.log_p)) <= SIGMAS * rare).all()  # x ~ p
    for ratio in (np.exp(lower - log_p), np.exp(log_p - upper)):
        for x in np.flatnonzero(seen > 100):
            one = ratio[index == x]
            assert abs(one.mean() - 1) <= SIGMAS * error(one), x
    below, above = lower - log_p, upper - log_p
    assert below.mean() < -SIGMAS * error(below)
    assert above.mean() > SIGMAS * error(above)


@pytest.mark.long
def test_the_gap_closes_as_k_grows():
    machine = tiny_machine(visible=VISIBLE, sizes=[3, 2], scale=1.0)
    found = [dreams(machine, K, 8) for K in (2, 16, 128)]
    gaps = [upper - lower for _, lower, upper in found]
    means = [gap.mean() for gap in gaps]
    assert means[0] > means[1] > means[2] > 0
    alone = [np.hypot(error(lower), error(upper)) for _, lower, upper in found]
    assert error(gaps[2]) < alone[2]  # both hang on the same samples
