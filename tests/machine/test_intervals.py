"""Errors over rows and samples: by their equations, and by how often the intervals hold the truth."""

import jax
import numpy as np
import pytest
from oracle import exact, states
from tiny_machine import tiny_machine

from bihm.machine.intervals import pooled, pooled_log_z, star_interval, two_level
from bihm.machine.likelihood import LogZ, log_z_tile, summarise_log_z
from bihm.machine.machine import split
from bihm.run.estimates.repeats import POWERS
from bihm.run.estimates.splits import estimate_split


def test_the_error_of_a_mean_counts_rows_and_samples():
    values = np.array([[-1.0, -4.0, -6.0], [-3.0, -4.0, -9.0]])
    found = two_level(values, 1.0)
    assert found.mean == pytest.approx(-4.5)
    assert found.sem == pytest.approx(np.std([-2, -4, -7.5], ddof=1) / np.sqrt(3))
    assert found.sem_samples == pytest.approx(np.sqrt((2 + 0 + 4.5) / 3 / 2 / 3))
    assert found.sem_rows == pytest.approx(np.sqrt(found.sem**2 - found.sem_samples**2))
    each = values.mean(axis=0)
    rows = each + 2 * (np.log(np.exp(values).mean(axis=0)) - each)  # R / (R - 1) = 2
    assert found.corrected == pytest.approx(rows.mean())
    reach = 4.302652730 * np.std(rows, ddof=1) / np.sqrt(3)  # t of two degrees of freedom
    assert (found.low, found.high) == pytest.approx((rows.mean() - reach, rows.mean() + reach))
    same_rows = two_level(np.array([[-1.0, -2.0], [-2.0, -1.0]]), 1.0)
    assert same_rows.sem_rows == 0  # no variance is negative


def test_2_log_z_of_several_seeds_is_that_of_all_their_samples():
    terms = np.log(np.random.default_rng(0).uniform(0.1, 0.9, (3, 400)))
    each = [summarise_log_z(some, 5) for some in terms]
    together, whole = pooled_log_z(each), summarise_log_z(terms.ravel(), 5)
    assert together.mean == pytest.approx(whole.mean)
    assert together.stderr == pytest.approx(whole.stderr, rel=0.01)  # spread within seeds alone
    assert (together.outer, together.inner) == (1200, 5)
    assert together.high == pytest.approx(together.mean + 1.96 * together.stderr)
    assert pooled_log_z(each[:1]) == pytest.approx(each[0])
    near = [one._replace(mean=-0.01, stderr=0.1) for one in each]
    assert pooled_log_z(near).high == 0.0  # 2 log Z is not above it


def test_the_error_of_2_log_z_is_carried_into_p_star():
    tilde = two_level(np.array([[-1.0, -4.0, -6.0], [-3.0, -4.0, -9.0]]), 0.5)
    star = star_interval(tilde, LogZ(-2.0, 0.5, -3.0, -1.0, 100, 5), 3)
    assert star.mean == pytest.approx(tilde.mean + 2)
    assert star.sem == pytest.approx(np.hypot(tilde.sem, 0.5))
    assert star.sem_rows == tilde.sem_rows
    assert star.sem_samples == pytest.approx(np.hypot(tilde.sem_samples, 0.5))
    assert star.corrected == pytest.approx(tilde.corrected + 2)
    reach = np.hypot(tilde.high - tilde.corrected, 4.302652730 * 0.5)
    assert (star.low, star.high) == pytest.approx((star.corrected - reach, star.corrected + reach))


def test_pooled_estimates_are_those_of_all_samples():
    log_w = np.random.default_rng(1).normal(-90, 2, (4, 10, 3))  # repeats, samples, rows
    for power in (1.0, 0.5):
        each = np.log(np.exp(power * log_w).mean(axis=1)) / power
        expected = np.log(np.exp(power * log_w).mean(axis=(0, 1))) / power
        np.testing.assert_allclose(pooled(each, power), expected)


TIMES, REPEATS, ROWS, K, OUTER = 200, 3, 40, 30, 40


@pytest.mark.long
def test_intervals_of_95_percent_hold_the_truth_in_90_to_99_of_100():
    """200 times: 40 rows drawn anew, three seeds each, against the mean of log p over all states.

    Samples are few, so that half of the error of p* is that of 2 log Z.
    """
    machine = tiny_machine(visible=4, sizes=[3, 2], scale=0.6)
    truth = exact(machine)
    structure, params = split(machine)
    rng = np.random.default_rng(0)
    chance = rng.dirichlet(np.ones(16))  # of rows: some data
    index = rng.choice(16, (TIMES, 1, ROWS), p=chance).repeat(REPEATS, axis=1)
    rows = states(4).astype(np.uint8)[index.ravel()]
    got = estimate_split(jax.random.key(3), structure, params, rows, K, block=K, k_hat=False)
    terms = log_z_tile(jax.random.key(4), structure, params, outer=TIMES * REPEATS * OUTER, inner=2)
    terms = np.asarray(terms).reshape(TIMES, REPEATS, OUTER)
    expected = {
        "log_p": chance @ truth.log_p,
        "log_p_tilde_star": chance @ truth.log_p_tilde_star,
        "log_p_star": chance @ truth.log_p_tilde_star - truth.two_log_z,
        "two_log_z": truth.two_log_z,
    }
    held = dict.fromkeys(expected, 0)
    for i in range(TIMES):
        values = {
            name: getattr(got, name).reshape(TIMES, REPEATS, ROWS)[i]
            for name in ("log_p", "log_p_tilde_star")
        }
        intervals = {name: two_level(each, POWERS[name]) for name, each in values.items()}
        z = pooled_log_z([summarise_log_z(some, 2) for some in terms[i]])
        intervals |= {
            "two_log_z": z,
            "log_p_star": star_interval(intervals["log_p_tilde_star"], z, ROWS),
        }
        for name, one in intervals.items():
            held[name] += one.low <= expected[name] <= one.high
    assert {name: 0.90 * TIMES <= count <= 0.99 * TIMES for name, count in held.items()} == (
        dict.fromkeys(held, True)
    ), held
