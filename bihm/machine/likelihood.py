"""Importance-sampling estimates: log p, log p~*, ESS and 2 log Z, in memory that does not grow with K.

Rows come in tiles of a fixed shape and samples in blocks of a fixed size, so that one compilation serves
every K above the block and every split that fills a tile. A tile is padded by the caller.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from bihm.errors import NumbersError
from bihm.kernels.compiled import fast_jit
from bihm.machine.machine import HelmholtzMachine, Params, Structure, bind
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey

MOST_NATS = 2.0**24  # float32 has 24 bits
STRETCH = 1000  # samples of a row between two looks at its weights, or a little more


class Estimates(NamedTuple):
    """K-sample estimates for each row, in nats, from log_w = log p(x, h) - log q(h | x), h ~ q."""

    log_p: Float[AnyArray, " rows"]  # log (1/K) sum_k w_k
    log_p_tilde_star: Float[AnyArray, " rows"]  # 2 log (1/K) sum_k sqrt(w_k)
    ess_p: Float[AnyArray, " rows"]  # (sum_k w_k)^2 / (K sum_k w_k^2)
    ess_p_star: Float[AnyArray, " rows"]  # (sum_k sqrt(w_k))^2 / (K sum_k w_k)
    k_hat_p: Float[AnyArray, " rows"] | None = None  # of the tail of w: see tails.py
    k_hat_p_star: Float[AnyArray, " rows"] | None = None  # of sqrt(w); None: nobody asked


class LogZ(NamedTuple):
    """2 log Z in nats: its standard error by the delta method over the outer samples, and 95 %."""

    mean: float
    stderr: float
    low: float
    high: float
    outer: int
    inner: int


class Sums(NamedTuple):
    """Running sums over the samples seen so far of powers of w / exp(top).

    Not their logarithms: near a large |log w| the last of many blocks would be rounded away.
    """

    top: Float[AnyArray, " rows"]  # the largest log_w
    half: Float[AnyArray, " rows"]  # of w^(1/2)
    one: Float[AnyArray, " rows"]  # of w
    two: Float[AnyArray, " rows"]  # of w^2


class Stretch(NamedTuple):
    """What a tile's rows have after some of their K samples, and log_w of the last of these."""

    estimates: Estimates  # once all K are in the sums
    sums: Sums
    log_w: Float[AnyArray, "stretch rows"]  # -inf: no sample


def log_weights(
    key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "rows visible"], samples: int
) -> Float[Array, "samples rows"]:
    """log w_k = log p(x, h^k) - log q(h^k | x) with h^k ~ q(h | x)."""
    h, log_q = machine.sample_q(key, x, samples)
    return machine.log_p(x, h) - log_q


def count_blocks(K: Array, block: int) -> Array:
    """How many blocks reach K; K + block - 1 could be too large a number."""
    return (K - 1) // block + 1


def no_weights(rows: int | tuple[int, ...]) -> Sums:
    """The sums before the first sample; of several tiles, (tiles, rows)."""
    zeros = np.zeros(rows, np.float32)
    return Sums(zeros - np.float32(np.inf), zeros, zeros, zeros)


def add_weights(sums: Sums, log_w: Float[Array, "samples rows"]) -> Sums:
    """Add samples; where one is larger than all before, what was there is scaled down to it."""
    top = jnp.maximum(sums.top, jnp.max(log_w, axis=0))
    old, new = jnp.exp((sums.top - top) / 2), jnp.exp((log_w - top[None]) / 2)
    return Sums(
        top,
        half=sums.half * old + jnp.sum(new, axis=0),
        one=sums.one * old**2 + jnp.sum(new**2, axis=0),
        two=sums.two * old**4 + jnp.sum(new**4, axis=0),
    )


def estimates_of(sums: Sums, K: Array) -> Estimates:
    """The estimates that K samples with these sums make."""
    samples = K.astype(jnp.float32)
    return Estimates(
        log_p=sums.top + jnp.log(sums.one / samples),
        log_p_tilde_star=sums.top + 2 * jnp.log(sums.half / samples),
        ess_p=sums.one**2 / sums.two / samples,
        ess_p_star=sums.half**2 / sums.one / samples,
    )


def blocks_at_once(block: int) -> int:
    """How many blocks of a tile one call works on."""
    return -(-STRETCH // block)


@partial(fast_jit, static_argnames=("structure", "block"))
def estimate_tile(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Bits[Array, "rows visible"],
    sums: Sums,
    first: Array,
    K: Array,
    *,
    block: int,
) -> Stretch:
    """Estimate the likelihood of each row from K samples, `block` of them at a time.

    A call begins with block number `first`, on top of `sums`, and does as many blocks as hold STRETCH
    samples, or as are left; after the last the estimates are those of all K. No sample depends on the cuts.
    """
    machine = bind(structure, params)
    most = blocks_at_once(block)

    def add_block(i: Array, state: tuple[Sums, Array]) -> tuple[Sums, Array]:
        sums, kept = state
        log_w = log_weights(jax.random.fold_in(key, i), machine, x, block)
        live = jnp.arange(block) < K - i * block  # the last block may reach beyond K
        log_w = jnp.where(live[:, None], log_w, -jnp.inf)
        kept = jax.lax.dynamic_update_slice_in_dim(kept, log_w, (i - first) * block, axis=0)
        return add_weights(sums, log_w), kept

    last = first + jnp.minimum(count_blocks(K, block) - first, most)
    kept = jnp.full((most * block, x.shape[0]), -jnp.inf)
    sums, kept = jax.lax.fori_loop(first, last, add_block, (sums, kept))
    return Stretch(estimates_of(sums, K), sums, kept)


@partial(fast_jit, static_argnames=("structure", "outer", "inner"))
def log_z_tile(
    key: PRNGKey, structure: Structure, params: Params, *, outer: int, inner: int
) -> Float[Array, " outer"]:
    """log of `outer` independent unbiased estimates of Z^2, each at most 0, from (x, h_0) ~ p.

    The plain estimate is w_0^(-1/2) (1/M) sum_m w_m^(1/2) with h_1 .. h_M ~ q(h | x). Given the set
    of all M + 1 latents, h_k is the one from p with probability w_k / sum_j w_j; the mean over that
    is sum_{j != k} (w_j w_k)^(1/2) / (M sum_k w_k): as unbiased, less noisy, and within [0, 1].
    """
    machine = bind(structure, params)
    outer_key, inner_key = jax.random.split(key)
    x, h = machine.sample_p(outer_key, outer)
    first = machine.log_p(x, h) - machine.log_q(x, h)
    others = log_weights(inner_key, machine, x, inner)
    return log_z_terms(jnp.concatenate([first[None], others]))


def log_z_terms(log_w: Float[Array, "latents outer"]) -> Float[Array, " outer"]:
    """log sum_{j != k} (w_j w_k)^(1/2) / (M sum_k w_k) over M + 1 latents, each at most 0."""
    # Each pair once, in logarithms: S^2 - sum w cancels where Z is small, and roots underflow.
    root = log_w / 2
    pairs = root[1:] + jax.lax.cumlogsumexp(root)[:-1]
    inner = len(log_w) - 1
    terms: Array = np.log(2 / inner) + logsumexp(pairs, axis=0) - logsumexp(log_w, axis=0)
    return terms


def summarise_log_z(log_terms: np.ndarray, inner: int) -> LogZ:
    """Turn independent log estimates of Z^2 into 2 log Z with its error.

    The log of an unbiased mean is biased low, by about stderr^2 / 2, which overstates p*; the interval
    is 1.96 standard errors to each side, and never beyond Z^2 <= 1.
    """
    log_terms = np.asarray(log_terms, np.float64)
    top = log_terms.max()
    with np.errstate(invalid="ignore"):  # of infinities; whoever asked will look
        terms = np.exp(log_terms - top)
        mean = float(top + np.log(terms.mean()))
        stderr = float(terms.std(ddof=1) / terms.mean() / np.sqrt(terms.size))
    low, high = mean - 1.96 * stderr, min(0.0, mean + 1.96 * stderr)
    return LogZ(mean, stderr, low, high, terms.size, inner)


def mean_and_sem(values: Float[AnyArray, " rows"]) -> tuple[float, float]:
    """The mean over a split and its standard error std / sqrt(N), in float64; of one row NaN: unknown."""
    exact = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # of infinities; whoever asked will look
        sem = exact.std(ddof=1) / np.sqrt(exact.size) if exact.size > 1 else np.nan
        return float(exact.mean()), float(sem)


def minus_log_z(bound: tuple[float, float], log_z: LogZ) -> tuple[float, float]:
    """log p* = log p~* - 2 log Z and its standard error, from those of log p~*: the two are independent."""
    mean, sem = bound
    return mean - log_z.mean, float(np.hypot(sem, log_z.stderr))


def check_meaning(name: str, value: float) -> None:
    """Refuse an estimate that is no number, or so large that float32 does not count its nats.

    Raises:
        NumbersError: it is NaN, infinite, or 2**24 nats or more.
    """
    if not abs(value) < MOST_NATS:
        beyond = ", more than float32 can count in nats" if math.isfinite(value) else ""
        raise NumbersError(f"{name} is {value:.4g}{beyond}")
