"""log p of what is seen of a row, whatever the rest: sums over the missing bits and over the latents.

    p(seen) = sum_h p(h) prod_{i seen} p(x_i | h_1)

The sum over the missing bits is exact where those of p(x | h_1) are independent. That over h is estimated
by importance sampling. q(h | x) needs a whole row, so half of the samples are from a mixture over C
completions of it; the other half are from the prior, which reaches what no completion leads to:

    g(h) = (1/2) p(h) + (1/2) (1/C) sum_c q(h | x^c),    v_k = p(h^k) p(seen | h^k_1) / g(h^k).

The mean weight is unbiased for any completions, and no weight is above 2 p(seen | h_1). The completions are
the ends of short chains on p(missing x, h | seen x). The q(h_2 .. h_L | h_1) of all C are the same.

Of BiHM's p* too: p*(seen) = sum_missing p~*(x) / Z^2, and Z cancels in

    p*(missing | seen) = p~*(x) / p~*(seen),    p~*(seen) = sum_missing p~*(x) = E_p[1(seen) p~*(x) / p(x)].

With x^k, the row whose missing bits are drawn from p(x | h^k_1), the pair (x^k, h^k) with weight v_k stands
for p(x, h) on all rows with this seen part. With M more latents h_m ~ q(h | x^k), and h^k as h_0, then

    p~*(seen) = E[v_k u_k],    u_k = sum_{j != m} (w_j w_m)^(1/2) / (M sum_m w_m),

with w_m = p(x^k, h_m) / q(h_m | x^k), as for 2 log Z (`log_z_tile`): unbiased for any M,
and since u <= 1 with no more variance than v allows.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from bihm.errors import ConfigError
from bihm.kernels.bernoulli import bernoulli_sample
from bihm.kernels.compiled import fast_jit
from bihm.kernels.noise import uniform
from bihm.kernels.numerics import log_mean_exp
from bihm.machine import sampling
from bihm.machine.layers.factorised import Factorised
from bihm.machine.likelihood import (
    Sums,
    add_weights,
    count_blocks,
    estimates_of,
    log_weights,
    log_z_terms,
    no_weights,
)
from bihm.machine.machine import HelmholtzMachine, Params, Structure, bind
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey

COMPLETIONS, SWEEPS, PROPOSALS = 10, 20, 10  # of each row; of each completion's chain


class Seen(NamedTuple):
    """Estimates for the seen part of each row, in nats; those of p~* are None where nobody asked."""

    log_p: Float[AnyArray, " rows"]  # log (1/K) sum_k v_k
    ess_p: Float[AnyArray, " rows"]  # of v, as a fraction of K
    log_p_tilde_star: Float[AnyArray, " rows"] | None = None  # log (1/K) sum_k v_k u_k
    ess_p_star: Float[AnyArray, " rows"] | None = None  # of v u


def check_factorised(machine: HelmholtzMachine) -> None:
    """See that the missing bits can be summed out.

    Raises:
        ConfigError: the bits of p(x | h_1) depend on each other.
    """
    layer = machine.p[0]
    if not isinstance(layer, Factorised):
        raise ConfigError(
            "log p of a part of a row needs independent bits in p(x | h_1), as sbn and dsbn have; "
            f"the first p.layer is {type(layer).__name__.lower()}"
        )


@partial(fast_jit, static_argnames=("structure", "block", "inner"))
def seen_tile(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Bits[Array, "rows visible"],
    seen: Bool[Array, "rows visible"],
    K: Array,
    *,
    block: int,
    inner: int = 0,
) -> Seen:
    """Estimate log p(seen part of x) of each row from K samples, rounded up to whole blocks.

    A block is `block` samples from each of the completions, and as many in all from the prior. What stands
    in missing places does not matter. With `inner` samples of q for each, log p~*(seen part of x) as well.
    """
    machine = bind(structure, params)
    chain_key, sample_key = jax.random.split(key)

    def add_block(i: Array, both: list[Sums]) -> list[Sums]:
        block_key = jax.random.fold_in(sample_key, i)
        log_v, log_u = _log_weights(block_key, machine, x, seen, whole, block, inner)
        added = [log_v] if log_u is None else [log_v, log_v + log_u]
        return [add_weights(sums, log_w) for sums, log_w in zip(both, added, strict=True)]

    whole = _completions(chain_key, machine, x, seen)
    blocks = count_blocks(K, 2 * COMPLETIONS * block)
    both = [no_weights(len(x))] * (2 if inner else 1)
    both = jax.lax.fori_loop(0, blocks, add_block, both)
    p, *star = (estimates_of(sums, blocks * (2 * COMPLETIONS * block)) for sums in both)
    if not star:
        return Seen(p.log_p, p.ess_p)
    return Seen(p.log_p, p.ess_p, star[0].log_p, star[0].ess_p)


def _completions(
    key: PRNGKey, machine: HelmholtzMachine, x: Array, seen: Array
) -> Bits[Array, "completions rows visible"]:
    first_key, start_key, sweep_key = jax.random.split(key, 3)
    rows = COMPLETIONS * len(x)
    dreams = sampling.ancestral(first_key, machine, rows)[0]
    observed = jnp.tile(seen, (COMPLETIONS, 1))
    begin = jnp.where(observed, jnp.tile(x, (COMPLETIONS, 1)), dreams)
    chain = sampling.start_chain(start_key, machine, begin, 1)
    chain, _ = sampling.run_chain(
        sweep_key, machine, chain, observed, jnp.asarray(0), sweeps=SWEEPS, K=PROPOSALS
    )
    return chain.x.reshape(COMPLETIONS, *x.shape)


def _log_weights(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Array,
    seen: Array,
    whole: Array,
    samples: int,
    inner: int,
) -> tuple[Float[Array, "all_samples rows"], Float[Array, "all_samples rows"] | None]:
    """log v of `samples` latents from each completion, and as many from p; log u from `inner` more."""
    q_key, p_key, x_key, inner_key = jax.random.split(key, 4)
    from_q, _ = machine.sample_q(q_key, whole.reshape(-1, x.shape[1]), samples)
    _, from_p = machine.sample_p(p_key, samples * len(whole) * len(x))
    h = [  # (all samples, rows, units)
        jnp.concatenate([layer.reshape(-1, len(x), layer.shape[-1]) for layer in pair])
        for pair in zip(from_q, from_p, strict=True)
    ]
    bottom, first = machine.p[0], machine.q[0]
    assert isinstance(bottom, Factorised)
    blank = jnp.zeros_like(x)  # of any x the same, to rounding
    log_prior = machine.log_p(blank, h) - bottom.log_prob(blank, h[0])
    rest = machine.log_q(blank, h) - first.log_prob(h[0], blank)  # log q(h_2 .. h_L | h_1)
    mixture = log_mean_exp(jax.lax.map(lambda one: first.log_prob(h[0], one), whole)) + rest
    log_g = jnp.logaddexp(log_prior, mixture) - jnp.log(2.0)
    a = bottom.logits(h[0])
    log_v = log_prior - log_g + sampling.log_prob_where(seen[None], x[None], a)
    if not inner:
        return log_v, None
    noise = uniform(x_key, a.shape)
    drawn = jnp.where(seen[None], x[None], bernoulli_sample(noise, a)).reshape(-1, x.shape[1])
    h = [layer.reshape(-1, layer.shape[-1]) for layer in h]
    own = machine.log_p(drawn, h) - machine.log_q(drawn, h)
    others = log_weights(inner_key, machine, drawn, inner)
    return log_v, log_z_terms(jnp.concatenate([own[None], others])).reshape(log_v.shape)
