"""Importance-sampling estimates: log p, log p~*, ESS and 2 log Z, in memory that does not grow with K.

Rows come in tiles of a fixed shape and samples in blocks of a fixed size, so one compilation serves
every K and every split. A tile is padded by the caller and its padding thrown away.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from bihm.compiled import fast_jit
from bihm.model import HelmholtzMachine, Params, Structure, bind
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey


class Estimates(NamedTuple):
    """K-sample estimates for each row, in nats, from log_w = log p(x, h) - log q(h | x), h ~ q."""

    log_p: Float[AnyArray, " rows"]  # log (1/K) sum_k w_k
    log_p_tilde_star: Float[AnyArray, " rows"]  # 2 log (1/K) sum_k sqrt(w_k)
    ess_p: Float[AnyArray, " rows"]  # (sum_k w_k)^2 / (K sum_k w_k^2)
    ess_p_star: Float[AnyArray, " rows"]  # (sum_k sqrt(w_k))^2 / (K sum_k w_k)


class LogZ(NamedTuple):
    """2 log Z in nats: its standard error by the delta method over the outer samples, and 95 %."""

    mean: float
    stderr: float
    low: float
    high: float
    outer: int
    inner: int


class _Sums(NamedTuple):
    """Running log-sum-exps over the samples seen so far."""

    half: Float[Array, " rows"]  # of log_w / 2
    one: Float[Array, " rows"]  # of log_w
    two: Float[Array, " rows"]  # of 2 log_w


def log_weights(
    key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "rows visible"], samples: int
) -> Float[Array, "samples rows"]:
    """log w_k = log p(x, h^k) - log q(h^k | x) with h^k ~ q(h | x)."""
    h, log_q = machine.sample_q(key, x, samples)
    return machine.log_p(x, h) - log_q


@partial(fast_jit, static_argnames=("structure", "block"))
def estimate_tile(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Bits[Array, "rows visible"],
    K: Array,
    *,
    block: int,
) -> Estimates:
    """Estimate the likelihood of each row from K samples, `block` of them at a time."""
    machine = bind(structure, params)

    def add_block(i: Array, sums: _Sums) -> _Sums:
        log_w = log_weights(jax.random.fold_in(key, i), machine, x, block)
        live = i * block + jnp.arange(block) < K  # the last block may reach beyond K
        log_w = jnp.where(live[:, None], log_w, -jnp.inf)
        new = (logsumexp(scale * log_w, axis=0) for scale in (0.5, 1, 2))
        return _Sums(*map(jnp.logaddexp, sums, new))

    nothing = jnp.full(x.shape[0], -jnp.inf)
    sums = jax.lax.fori_loop(0, (K + block - 1) // block, add_block, _Sums(*[nothing] * 3))
    log_K = jnp.log(K.astype(jnp.float32))
    return Estimates(
        log_p=sums.one - log_K,
        log_p_tilde_star=2 * (sums.half - log_K),
        ess_p=jnp.exp(2 * sums.one - sums.two - log_K),
        ess_p_star=jnp.exp(2 * sums.half - sums.one - log_K),
    )


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
    log_w = jnp.concatenate([first[None], log_weights(inner_key, machine, x, inner)])
    root = jnp.exp((log_w - log_w.max(axis=0, keepdims=True)) / 2)
    before = jnp.cumsum(root, axis=0) - root
    pairs = 2 * jnp.sum(root * before, axis=0)  # not S^2 - sum w, which cancels where Z is small
    tiny = jnp.finfo(pairs.dtype).tiny
    return jnp.log(jnp.maximum(pairs, tiny)) - jnp.log(inner * jnp.sum(root**2, axis=0))


def summarise_log_z(log_terms: np.ndarray, inner: int) -> LogZ:
    """Turn independent log estimates of Z^2 into 2 log Z with its error.

    The log of an unbiased mean is biased low, by about stderr^2 / 2, which overstates p*; the interval
    is 1.96 standard errors to each side, and never beyond Z^2 <= 1.
    """
    log_terms = np.asarray(log_terms, np.float64)
    top = log_terms.max()
    terms = np.exp(log_terms - top)
    mean = float(top + np.log(terms.mean()))
    stderr = float(terms.std(ddof=1) / terms.mean() / np.sqrt(terms.size))
    low, high = mean - 1.96 * stderr, min(0.0, mean + 1.96 * stderr)
    return LogZ(mean, stderr, low, high, terms.size, inner)


def mean_and_sem(values: Float[AnyArray, " rows"]) -> tuple[float, float]:
    """The mean over a split and its standard error std / sqrt(N), summed in float64."""
    exact = np.asarray(values, np.float64)
    sem = exact.std(ddof=1) / np.sqrt(exact.size) if exact.size > 1 else 0.0
    return float(exact.mean()), float(sem)
