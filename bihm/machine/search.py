"""The most probable completion of a row, as far as a search finds it.

Candidates are the states of a chain on the completions of the row, and the roundings of these: each missing
bit at its more probable value given the present h_1, one after the other where they depend on each other.
Each candidate x is scored by the K-sample estimate of log p(x), or of log p~*(x), with the same random
numbers for all candidates of a row; the best one is kept. As the chain may reach any completion, the best
of all is found in the end, up to the errors of the estimates: those shrink with K. Until then the search
promises no more than the best of what it met. log p(missing | seen) differs from the score by a constant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Integer

from bihm.machine.likelihood import (
    Sums,
    add_weights,
    count_blocks,
    estimates_of,
    log_weights,
    no_weights,
)
from bihm.machine.machine import HelmholtzMachine
from bihm.machine.sampling import Chain, SweepInfo, held, run_chain
from bihm.types import Array, Bits, Float, PRNGKey

EVERY = 5  # sweeps from one candidate to the next
SCORED = 10  # samples at once
PROPOSALS = 10  # of the chain


class Best(NamedTuple):
    """The best completion of each row so far, and its score in nats."""

    x: Bits[Array, "batch visible"]
    score: Float[Array, " batch"]


def search(
    key: PRNGKey,
    machine: HelmholtzMachine,
    chain: Chain,
    best: Best,
    observed: Bool[Array, "batch visible"],
    first: Integer[Array, ""],
    K: Integer[Array, ""],
    *,
    stretches: int,
) -> tuple[Chain, Best, SweepInfo]:
    """So many stretches of `EVERY` sweeps, the next one being number `first`, each with two candidates.

    The target of the chain says whose completions these are: two replicas are those of p*, one of p. K
    samples of q, rounded up to whole tens, score a candidate.
    """
    chain_key, score_key = jax.random.split(key)
    by_p_star = len(chain.h[0]) > 1

    def keep_better(best: Best, x: Array) -> tuple[Best, None]:
        score = scored(score_key, machine, x, K, by_p_star)
        better = score > best.score
        x = jnp.where(better[:, None], x, best.x)
        return Best(x, jnp.where(better, score, best.score)), None

    def body(state: tuple[Chain, Best], number: Array) -> tuple[tuple[Chain, Best], SweepInfo]:
        chain, best = state
        chain, info = run_chain(
            chain_key, machine, chain, observed, number * EVERY, sweeps=EVERY, K=PROPOSALS
        )
        candidates = jnp.stack([chain.x, rounded(machine, chain, observed)])
        best, _ = jax.lax.scan(keep_better, best, candidates)
        return (chain, best), info

    (chain, best), infos = jax.lax.scan(body, (chain, best), first + jnp.arange(stretches))
    return chain, best, infos


def rounded(
    machine: HelmholtzMachine, chain: Chain, observed: Bool[Array, "batch visible"]
) -> Bits[Array, "batch visible"]:
    """Rows whose missing bits are 1 where that is more probable given h_1, its mean over the replicas."""
    half = jnp.full(
        chain.x.shape, 0.5, jnp.float32
    )  # a unit is 1 where this is below its probability
    y = jnp.mean(chain.h[0], axis=0)
    return jnp.asarray(machine.p[0].sample(held(half, chain.x, observed), y))


def scored(
    key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "batch visible"], K: Array, star: bool
) -> Float[Array, " batch"]:
    """Estimates of log p~*(x), if `star`, or of log p(x)."""
    blocks = count_blocks(K, SCORED)

    def add_block(i: Array, sums: Sums) -> Sums:
        return add_weights(sums, log_weights(jax.random.fold_in(key, i), machine, x, SCORED))

    sums = jax.lax.fori_loop(0, blocks, add_block, no_weights(len(x)))
    found = estimates_of(sums, blocks * SCORED)
    return jnp.asarray(found.log_p_tilde_star if star else found.log_p)
