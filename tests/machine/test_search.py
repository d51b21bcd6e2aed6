"""The most probable completion, against a look at all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states
from tiny_machine import tiny_machine

from bihm.machine.sampling import Chain, start_chain
from bihm.machine.search import Best, rounded, scored, search

VISIBLE, SIGMAS, K = 5, 5, 2000
SEEN = np.array([True, False, False, True, False])


def best_of_all(log_p, error, x):
    """The most probable row that agrees with each of these where it is seen, its place, and whether errors
    of the estimates could make another one of it."""
    all_x = states(VISIBLE)
    agree = (all_x[None, :, SEEN] == x[:, None, SEEN]).all(axis=2)
    best = np.where(agree, log_p, -np.inf).argmax(axis=1)
    others = agree & (np.arange(len(all_x)) != best[:, None])
    rival = np.where(others, log_p + SIGMAS * error, -np.inf).max(axis=1)
    return all_x[best], best, (log_p - SIGMAS * error)[best] > rival


def error_of(truth, star, K):
    """The standard error of an estimate from K samples of q, of each row: the delta method."""
    if star:
        ratio = truth.p.sum(axis=1) / np.sqrt(truth.p * truth.q).sum(axis=1) ** 2
        return 2 * np.sqrt((ratio - 1) / K)
    ratio = (truth.p**2 / truth.q).sum(axis=1) / truth.p.sum(axis=1) ** 2
    return np.sqrt((ratio - 1) / K)


@pytest.mark.long
@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize(("bottom", "seed"), [("sbn", 8), ("darn", 4)])
def test_enough_sweeps_and_samples_find_the_best_of_all(bottom, seed, star):
    """The seeds are those of machines whose best completions stand out more than estimates err."""
    machine = tiny_machine(
        [bottom, "sbn", "sbn"], "sbn", visible=VISIBLE, sizes=[3, 2], scale=0.5, seed=seed
    )
    truth = exact(machine)
    log_p = truth.log_p_tilde_star if star else truth.log_p
    x = np.unique(states(VISIBLE) * SEEN, axis=0)
    error = error_of(truth, star, K)
    expected, place, clear = best_of_all(log_p, error, x)
    assert clear.sum() >= 3
    rows = jnp.asarray(np.where(SEEN, x, 1 - expected), jnp.float32)  # the opposite of the best
    chain = start_chain(jax.random.key(0), machine, rows, 2 if star else 1)
    best = Best(rows, jnp.full(len(x), -jnp.inf))
    observed = jnp.broadcast_to(SEEN, rows.shape)
    go = jax.jit(partial(search, machine=machine, stretches=30))
    few = jax.jit(partial(search, machine=machine, stretches=1))
    arguments = {"chain": chain, "best": best, "observed": observed, "first": jnp.asarray(0)}
    _, found, info = go(jax.random.key(1), K=jnp.asarray(K), **arguments)
    np.testing.assert_array_equal(np.asarray(found.x)[clear], expected[clear])
    np.testing.assert_array_equal(np.asarray(found.x)[:, SEEN], x[:, SEEN])
    off = np.abs(np.asarray(found.score) - log_p[place])[clear]
    assert (off <= SIGMAS * error[place][clear]).all()
    assert info.ess.shape == (30, 5)
    _, after_few, _ = few(jax.random.key(1), K=jnp.asarray(K), **arguments)
    assert (found.score >= after_few.score).all()  # a search only gets better


def test_a_rounding_takes_the_more_probable_value_of_each_missing_bit():
    machine = tiny_machine("sbn", "sbn", visible=VISIBLE, sizes=[3])
    rng = np.random.default_rng(0)
    x, h = (jnp.asarray(rng.integers(0, 2, shape), jnp.float32) for shape in ((6, 5), (1, 6, 3)))
    got = rounded(machine, Chain(x, [h]), jnp.broadcast_to(SEEN, x.shape))
    more = np.asarray(machine.p[0].logits(h[0])) > 0
    np.testing.assert_array_equal(got, np.where(SEEN, x, more))


def test_candidates_of_a_row_are_scored_by_the_same_random_numbers():
    machine = tiny_machine("sbn", "sbn", visible=VISIBLE, sizes=[3])
    x = jnp.asarray(states(VISIBLE)[:7], jnp.float32)
    one, other = (scored(jax.random.key(3), machine, x, jnp.asarray(25), True) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    whole = scored(jax.random.key(3), machine, x, jnp.asarray(30), True)
    np.testing.assert_array_equal(one, whole)  # K in whole tens
