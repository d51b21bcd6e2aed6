"""The layerwise scheme against its own target, which is not p*: sums over all states."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from oracle import exact, latents, states
from scipy import stats
from tiny_machine import tiny_machine

from bihm.machine.layerwise import run_layerwise
from bihm.machine.sampling import Chain, start_chain

SIGMAS, VISIBLE, SIZES, CHAINS, K = 5, 4, [3, 2], 100_000, 3
SEEN = {"nothing": np.zeros(VISIBLE, bool), "some": np.array([True, False, False, True])}


def index(bits):
    bits = np.asarray(bits).astype(int)
    return bits @ 2 ** np.arange(bits.shape[-1])[::-1]


def assert_distribution(numbers, expected):
    """Chi-square within five sigma; states that are expected fewer than ten times are taken together."""
    counts = np.bincount(numbers, minlength=expected.size)
    rare = expected * numbers.size < 10
    p = np.append(expected[~rare], expected[rare].sum())
    n = np.append(counts[~rare], counts[rare].sum())
    p, n = p[p > 0], n[p > 0]
    chi_square = ((n - numbers.size * p) ** 2 / (numbers.size * p)).sum()
    assert chi_square <= stats.chi2.isf(stats.norm.sf(SIGMAS), p.size - 1)


def layers_of(bottom, middle="sbn"):
    p, q = [bottom, middle, "sbn"], [middle, "sbn"]
    return tiny_machine(p, q, visible=VISIBLE, sizes=SIZES, scale=1.0, seed=3)


def run(machine, chain, seen, sweeps):
    observed = jnp.broadcast_to(seen, chain.x.shape)
    go = jax.jit(partial(run_layerwise, machine=machine, sweeps=sweeps, K=K))
    return go(jax.random.key(1), chain=chain, observed=observed, first=jnp.asarray(0))


@pytest.mark.long
@pytest.mark.parametrize("seen", ["some", *rare("nothing")])
@pytest.mark.parametrize(
    "bottom", ["sbn", *(pytest.param(name, marks=pytest.mark.long) for name in ("darn", "nade"))]
)
def test_a_sweep_leaves_the_root_of_p_times_q_as_it_is(bottom, seen):
    machine = layers_of(bottom, "darn" if bottom == "darn" else "sbn")
    truth = exact(machine)
    rho = np.sqrt(truth.p * truth.q)
    rho /= rho.sum()
    drawn = np.random.default_rng(0).choice(rho.size, CHAINS, p=rho.ravel())
    number, hidden = np.unravel_index(drawn, rho.shape)
    x, all_h = states(VISIBLE)[number], latents(machine)[hidden]
    h = [jnp.asarray(part[None], jnp.float32) for part in np.split(all_h, [SIZES[0]], axis=1)]
    start = Chain(jnp.asarray(x, jnp.float32), h)
    after, info = run(machine, start, SEEN[seen], 1)
    joint = np.concatenate([after.x, *(part[0] for part in after.h)], axis=1)
    assert_distribution(index(joint), rho.ravel())
    np.testing.assert_array_equal(after.x[:, SEEN[seen]], start.x[:, SEEN[seen]])
    for before, now in zip(jax.tree.leaves(start), jax.tree.leaves(after), strict=True):
        assert not np.array_equal(before, now)  # every layer moves
    assert 0.2 < info.acceptance[0] < 1
    assert 1 / K <= info.ess[0] <= 1


@pytest.mark.long
def test_from_anywhere_its_rows_become_those_of_the_root_of_p_star():
    machine = layers_of("sbn")
    truth = exact(machine)
    root = np.exp(truth.log_p_tilde_star / 2)
    p_star = np.exp(truth.log_p_tilde_star - truth.two_log_z)
    root /= root.sum()
    assert np.abs(root - p_star).sum() / 2 > 0.1  # by which it is wrong
    worst = jnp.asarray(states(VISIBLE)[root.argmin()], jnp.float32)
    rows = jnp.broadcast_to(worst, (CHAINS, VISIBLE))
    chain, _ = run(machine, start_chain(jax.random.key(2), machine, rows, 1), SEEN["nothing"], 60)
    assert_distribution(index(chain.x), root)
