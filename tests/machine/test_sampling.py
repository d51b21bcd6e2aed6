"""Exact check 7: draws of p and p*, and chains, against sums over all states."""

from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from flax import nnx
from oracle import exact, latents, states
from scipy import stats
from tiny_machine import tiny_machine

from bihm.errors import ConfigError
from bihm.kernels.compiled import fast_jit
from bihm.machine.layers.nade import Nade
from bihm.machine.layers.order import Order
from bihm.machine.machine import HelmholtzMachine
from bihm.machine.sampling import (
    POOL_BLOCK,
    Chain,
    ancestral,
    check_bottom,
    resample,
    run_chain,
    start_chain,
)

SIGMAS = 5
VISIBLE, SIZES = 4, [3, 1]
CHAINS = 100_000
K, LONG = 4, 25  # samples of an i-SIR move, sweeps from a far start
NOTHING = np.zeros(VISIBLE, bool)
EVERYTHING = np.ones(VISIBLE, bool)
SOME = np.array([True, False, False, True])


@pytest.fixture(scope="module")
def machine():
    """Weights large enough that p* is far from p, and that the chain often refuses."""
    return tiny_machine(visible=VISIBLE, sizes=SIZES, scale=1.0, seed=9)


@pytest.fixture(scope="module")
def truth(machine):
    return exact(machine)


def p_star(truth):
    return np.exp(truth.log_p_tilde_star - truth.two_log_z)


def index(bits):
    """The number of each row's state, in the order of the oracle's tables."""
    bits = np.asarray(bits).astype(int)
    return bits @ 2 ** np.arange(bits.shape[-1])[::-1]


def assert_distribution(drawn, expected):
    """Pearson's chi-square of the drawn state numbers is no larger than at five sigma.

    States expected fewer than ten times are taken together, so that a rare one cannot decide.
    """
    assert expected.sum() == pytest.approx(1)
    counts = np.bincount(drawn, minlength=expected.size)
    rare = expected * drawn.size < 10
    p = np.append(expected[~rare], expected[rare].sum())
    n = np.append(counts[~rare], counts[rare].sum())
    assert (n[p == 0] == 0).all()
    p, n = p[p > 0], n[p > 0]
    chi_square = ((n - drawn.size * p) ** 2 / (drawn.size * p)).sum()
    assert chi_square <= stats.chi2.isf(stats.norm.sf(SIGMAS), p.size - 1)


def test_p_and_p_star_differ_enough_to_be_told_apart(truth):
    assert np.abs(np.exp(truth.log_p) - p_star(truth)).sum() / 2 > 0.1


def test_ancestral_samples_follow_p(machine, truth):
    x, h = fast_jit(lambda key: ancestral(key, machine, CHAINS))(jax.random.key(0))
    assert_distribution(index(np.concatenate([x, *h], axis=1)), truth.p.ravel())


@pytest.mark.long
def test_resampling_follows_p_star(machine, truth):
    """The mean of many pools, since the draws from one pool share its luck."""
    pools, size = 100, 4 * POOL_BLOCK
    draw = jax.jit(partial(resample, machine=machine, samples=size, proposals=size - 3, inner=2))
    drawn = [draw(jax.random.key(i)) for i in range(pools)]
    assert drawn[0].x.shape == (size, VISIBLE)
    shares = np.array([np.bincount(index(d.x), minlength=2**VISIBLE) / size for d in drawn])
    error = shares.std(axis=0, ddof=1) / np.sqrt(pools)
    assert (np.abs(shares.mean(axis=0) - p_star(truth)) <= SIGMAS * error).all()
    assert error.max() < 0.002
    assert all(0 < d.ess < 1 for d in drawn)


def tables(truth):
    """pi(x, h, h') and its factor sqrt(p(x, h) q(h | x)), normalised over h."""
    root = np.sqrt(truth.p * truth.q)
    pi = root[:, :, None] * root[:, None, :]
    return pi / pi.sum(), root / root.sum(axis=1, keepdims=True)


def draws_of_pi(machine, truth):
    """Chains that start in equilibrium."""
    pi, _ = tables(truth)
    rng = np.random.default_rng(4)
    numbers = np.unravel_index(rng.choice(pi.size, CHAINS, p=pi.ravel()), pi.shape)
    h = latents(machine)[np.stack(numbers[1:])]
    h = np.split(h, np.cumsum(SIZES)[:-1], axis=-1)
    x = jnp.asarray(states(VISIBLE)[numbers[0]], jnp.float32)
    return Chain(x, [jnp.asarray(a, jnp.float32) for a in h])


@pytest.fixture(scope="module")
def moved(machine):
    """`run_chain`, compiled once for each length."""

    @partial(jax.jit, static_argnames=("sweeps", "K"))
    def run(chain, mask, first, *, sweeps, K):
        return run_chain(jax.random.key(5), machine, chain, mask, first, sweeps=sweeps, K=K)

    def moved(chain, observed, first=0, **lengths):
        mask = jnp.broadcast_to(observed, chain.x.shape)
        return run(chain, mask, jnp.asarray(first), **lengths)

    return moved


def joint_index(chain):
    h = np.concatenate(chain.h, axis=-1)
    return index(np.concatenate([chain.x, h[0], h[1]], axis=-1))


@pytest.mark.parametrize(
    ("samples", "observed", "moves"),
    [
        pytest.param(1, NOTHING, "x", marks=pytest.mark.long),
        pytest.param(K, EVERYTHING, "h", marks=pytest.mark.long),
        pytest.param(K, NOTHING, "both", marks=pytest.mark.long),  # below, of a darn
        pytest.param(K, SOME, "both", marks=pytest.mark.long),
    ],
)
def test_7_moves_leave_pi_invariant(machine, truth, moved, samples, observed, moves):
    """In equilibrium before a sweep, in equilibrium after it: jointly in x, h and h'."""
    start = draws_of_pi(machine, truth)
    pi = tables(truth)[0].ravel()
    assert_distribution(joint_index(start), pi)
    after, info = moved(start, observed, sweeps=1, K=samples)
    assert_distribution(joint_index(after), pi)
    np.testing.assert_array_equal(after.x[:, observed], start.x[:, observed])
    changed = [not np.array_equal(a, b) for a, b in zip(after.h, start.h, strict=True)]
    assert changed == [moves != "x"] * len(SIZES)
    assert np.array_equal(after.x, start.x) == (moves == "h")
    assert info.acceptance.shape == info.ess.shape == (1,)
    assert (info.acceptance[0] < 0.95) == (moves != "h")
    assert 1 / samples - 1e-6 <= info.ess[0] <= 1 + 1e-6


def far_start(machine, x):
    rows = jnp.broadcast_to(jnp.asarray(x, jnp.float32), (CHAINS, VISIBLE))
    return start_chain(jax.random.key(6), machine, rows, 2)


@pytest.mark.long
def test_7_a_chain_converges_to_p_star(machine, truth, moved):
    x = states(VISIBLE)[p_star(truth).argmin()]
    chain, _ = moved(far_start(machine, x), NOTHING, sweeps=LONG, K=K)
    assert_distribution(index(chain.x), p_star(truth))
    assert_distribution(joint_index(chain), tables(truth)[0].ravel())


@pytest.mark.long
def test_7_inpainting_converges_to_the_conditional_of_p_star(machine, truth, moved):
    x = np.array([1, 0, 1, 0])
    chain, _ = moved(far_start(machine, x), SOME, sweeps=LONG, K=K)
    agrees = (states(VISIBLE)[:, SOME] == x[SOME]).all(axis=1)
    conditional = np.where(agrees, p_star(truth), 0)
    assert agrees.sum() == 4
    assert_distribution(index(chain.x), conditional / conditional.sum())


@pytest.mark.long
def test_a_chain_in_parts_is_the_chain_in_one(machine, moved):
    """And chains with different masks share one call."""
    start = far_start(machine, states(VISIBLE)[5])
    mask = np.arange(CHAINS * VISIBLE).reshape(CHAINS, VISIBLE) % 3 == 0
    whole, info = moved(start, mask, sweeps=LONG, K=K)
    part = start
    for sweep in range(LONG):
        part, last = moved(part, mask, sweep, sweeps=1, K=K)
    jax.tree.map(np.testing.assert_array_equal, whole, part)
    assert info.ess.shape == (LONG,)
    assert info.ess[-1] == last.ess[0]
    np.testing.assert_array_equal(whole.x[mask], start.x[mask])
    assert not np.array_equal(whole.x, start.x)


@pytest.mark.long
def test_keys_are_used_once(machine):
    def everything(a, b, c, d):
        x, _ = ancestral(a, machine, 2)
        chain = start_chain(b, machine, x, 2)
        chain, _ = run_chain(c, machine, chain, x > 0, jnp.asarray(0), sweeps=2, K=2)
        return chain, resample(d, machine, 2, 2 * POOL_BLOCK, 2)

    with jax.debug_key_reuse(True):
        jax.jit(everything)(*jax.random.split(jax.random.key(0), 4))


class Bare(nnx.Module):
    """A conditional of somebody else's that owes its callers no more than the protocol."""

    options: ClassVar[frozenset[str]] = frozenset()
    n_inputs, n_units = SIZES[0], VISIBLE

    def sample(self, noise, y): ...
    def log_prob(self, h, y): ...
    def sample_and_log_prob(self, noise, y): ...


def test_the_chain_refuses_a_bottom_of_which_it_knows_no_logits(machine):
    for kind in ("sbn", "dsbn", "darn", "nade"):
        check_bottom(tiny_machine(p_layers=[kind, "sbn", "sbn", "sbn"]))
    with pytest.raises(ConfigError, match=r"first p\.layer, bare, has neither logits nor unit_log"):
        check_bottom(HelmholtzMachine([Bare(), *machine.p[1:]], list(machine.q)))


class Target(NamedTuple):
    """A machine with another bottom, and all states of its chain with their probabilities."""

    machine: HelmholtzMachine
    replicas: int
    x: np.ndarray  # p(x) or p*(x)
    pi: np.ndarray  # over x and the latents of all replicas, (2^visible, 2^bits, ..)


NADE = rare(("nade", 1), ("nade", 2))
TARGETS = [("darn", 2), *rare(("sbn", 1), ("darn", 1)), *NADE]
BACKWARDS = np.arange(VISIBLE)[::-1]


@pytest.fixture(scope="module", params=TARGETS, ids=lambda t: f"{t[0]}-{['p', 'p_star'][t[1] - 1]}")
def target(request):
    """With random weights that matter: also between the pixels, of which the last is drawn first."""
    bottom, replicas = request.param
    machine = tiny_machine([bottom, "sbn", "sbn"], "sbn", 9, VISIBLE, SIZES, scale=1.0)
    if bottom != "sbn":
        machine.p[0].order = nnx.data(Order(jnp.asarray(BACKWARDS, jnp.float32)))
    truth = exact(machine)
    if replicas == 2:
        return Target(machine, 2, p_star(truth), tables(truth)[0])
    return Target(machine, 1, np.exp(truth.log_p), truth.p)


def run_target(target, chain, observed, sweeps):
    mask = jnp.broadcast_to(observed, chain.x.shape)
    run = jax.jit(partial(run_chain, machine=target.machine, sweeps=sweeps, K=K))
    return run(jax.random.key(5), chain=chain, observed=mask, first=jnp.asarray(0))


def joint_states(chain):
    return index(np.concatenate([chain.x, *np.concatenate(chain.h, axis=-1)], axis=-1))


@pytest.mark.parametrize("observed", [SOME, NOTHING], ids=["inpainting", "free"])
def test_7_moves_leave_every_target_invariant(target, observed):
    """In equilibrium before a sweep, in equilibrium after it: jointly in x and all latents."""
    rng = np.random.default_rng(4)
    pi = target.pi.ravel() / target.pi.sum()
    numbers = np.unravel_index(rng.choice(pi.size, CHAINS, p=pi), target.pi.shape)
    h = np.split(latents(target.machine)[np.stack(numbers[1:])], np.cumsum(SIZES)[:-1], axis=-1)
    x = jnp.asarray(states(VISIBLE)[numbers[0]], jnp.float32)
    start = Chain(x, [jnp.asarray(a, jnp.float32) for a in h])
    assert_distribution(joint_states(start), pi)
    after, info = run_target(target, start, observed, 1)
    assert_distribution(joint_states(after), pi)
    np.testing.assert_array_equal(after.x[:, observed], start.x[:, observed])
    assert not np.array_equal(after.x, start.x)
    factorised_p = target.replicas == 1 and not hasattr(target.machine.p[0], "unit_logits")
    assert (info.acceptance[0] == 1) == factorised_p
    assert 0.3 < info.acceptance[0] <= 1
    assert 1 / K <= info.ess[0] <= 1 + 1e-6


@pytest.mark.long
def test_7_completions_converge_to_the_conditional(target):
    """From a row whose missing pixels are the least likely ones."""
    given = np.array([1, 0, 1, 0])
    agrees = (states(VISIBLE)[:, SOME] == given[SOME]).all(axis=1)
    conditional = np.where(agrees, target.x, 0) / target.x[agrees].sum()
    worst = states(VISIBLE)[np.where(agrees, target.x, np.inf).argmin()]
    rows = jnp.broadcast_to(jnp.asarray(worst, jnp.float32), (CHAINS, VISIBLE))
    start = start_chain(jax.random.key(6), target.machine, rows, target.replicas)
    # Likelihood weighting mixes slowly: chi-square is 85, 10, 1.8, 0.9 (darn) after 25, 50, 75, 100 sweeps,
    # and 73, 46, 32, 8.4 (nade) after 50, 100, 150, 200.
    slow = isinstance(target.machine.p[0], Nade)
    chain, _ = run_target(target, start, SOME, (8 if slow else 4) * LONG)
    assert_distribution(index(chain.x), conditional)
    assert np.abs(conditional - np.where(agrees, 1, 0) / agrees.sum()).sum() > 0.1  # not uniform


@pytest.mark.long
def test_a_later_part_of_a_chain_has_randomness_of_its_own():
    """Two sweeps in one are one and one more, and not twice the same draw."""
    machine = tiny_machine(visible=3, sizes=[2])
    x = jnp.asarray(np.tile(states(3), (4, 1)), jnp.float32)
    mask, start = jnp.zeros(x.shape, bool), Chain(x, [jnp.zeros((2, len(x), 2))])

    @partial(jax.jit, static_argnames="sweeps")
    def run(chain, first, *, sweeps):
        return run_chain(jax.random.key(5), machine, chain, mask, first, sweeps=sweeps, K=3)

    whole, info = run(start, jnp.asarray(3), sweeps=2)
    part, first = run(start, jnp.asarray(3), sweeps=1)
    part, second = run(part, jnp.asarray(4), sweeps=1)
    jax.tree.map(np.testing.assert_array_equal, whole, part)
    assert info.ess.tolist() == [*first.ess.tolist(), *second.ess.tolist()]
    another, _ = run(start, jnp.asarray(4), sweeps=1)  # the same start, another sweep
    once, _ = run(start, jnp.asarray(3), sweeps=1)
    assert not np.array_equal(another.h[0], once.h[0])
    assert not np.array_equal(another.x, once.x)


@pytest.mark.long
def test_the_weights_of_a_pool_are_those_of_the_equation_and_pick_in_proportion():
    """The same samples by their equation, in float64."""
    machine = tiny_machine(visible=VISIBLE, sizes=[2], scale=1.0)
    key, inner = jax.random.key(8), 3
    pool_key, _ = jax.random.split(key)

    @jax.jit
    def candidates(key):
        (only,) = jax.random.split(key, 1)
        outer_key, inner_key = jax.random.split(only)
        x, h = machine.sample_p(outer_key, 40)
        fresh, log_q = machine.sample_q(inner_key, x, inner)
        return x, machine.log_p(x, h) - machine.log_q(x, h), machine.log_p(x, fresh) - log_q

    x, log_r, log_fresh = (np.asarray(a, np.float64) for a in candidates(pool_key))
    w = np.exp(-log_r / 2) * np.exp(log_fresh / 2).mean(axis=0)
    draw = jax.jit(partial(resample, machine=machine, samples=20_000, proposals=40, inner=inner))
    drawn = draw(key)
    assert float(drawn.ess) == pytest.approx(w.sum() ** 2 / (40 * (w**2).sum()), rel=1e-4)
    expected = np.bincount(index(x), weights=w / w.sum(), minlength=2**VISIBLE)
    assert_distribution(index(drawn.x), expected)
