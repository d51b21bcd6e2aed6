"""log p of what is seen of a row, whatever the rest: sums over the missing bits and over the latents.

    p(seen) = sum_h p(h) prod_{i seen} p(x_i | h_1)

The sum over the missing bits is exact where those of p(x | h_1) are independent. That over h is estimated
by importance sampling: q(h | x) needs a whole row, so the proposal is a mixture over C completions of it,

    h^k ~ (1/C) sum_c q(h | x^c),    w_k = p(h^k) p(seen | h^k_1) / (1/C) sum_c q(h^k | x^c),

whose mean weight is unbiased for any completions; the better they are, the less noisy. They are the ends of
short chains on p(missing x, h | seen x). The q(h_2 .. h_L | h_1) of all C are the same.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Bool

from bihm.errors import ConfigError
from bihm.kernels.compiled import fast_jit
from bihm.kernels.products import products_in
from bihm.machine import sampling
from bihm.machine.likelihood import Sums, add_weights, count_blocks, estimates_of, no_weights
from bihm.machine.machine import HelmholtzMachine, Params, Structure, bind
from bihm.types import Array, Bits, Float, PRNGKey

COMPLETIONS, SWEEPS, PROPOSALS = 10, 20, 10  # of each row; of each completion's chain


def check_factorised(machine: HelmholtzMachine) -> None:
    """See that the missing bits can be summed out.

    Raises:
        ConfigError: the bits of p(x | h_1) depend on each other.
    """
    layer = machine.p[0]
    if not isinstance(layer, sampling.Factorised):
        raise ConfigError(
            f"given needs independent bits in p(x | h_1), as sbn and dsbn have; the first p.layer is "
            f"{type(layer).__name__.lower()}"
        )


@partial(fast_jit, static_argnames=("structure", "block"))
def seen_tile(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Bits[Array, "rows visible"],
    seen: Bool[Array, "rows visible"],
    K: Array,
    *,
    block: int,
) -> Float[Array, " rows"]:
    """Estimate log p(seen part of x) of each row from K samples, rounded up to whole blocks.

    A block is `block` samples from each of the completions. What stands in missing places does not matter.
    """
    machine = bind(structure, params)
    chain_key, sample_key = jax.random.split(key)

    def add_block(i: Array, sums: Sums) -> Sums:
        block_key = jax.random.fold_in(sample_key, i)
        return add_weights(sums, _log_weights(block_key, machine, x, seen, whole, block))

    with products_in("f32"):  # whatever the user asks of jax
        whole = _completions(chain_key, machine, x, seen)
        blocks = count_blocks(K, COMPLETIONS * block)
        sums = jax.lax.fori_loop(0, blocks, add_block, no_weights(len(x)))
    return jnp.asarray(estimates_of(sums, blocks * (COMPLETIONS * block)).log_p)


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
    key: PRNGKey, machine: HelmholtzMachine, x: Array, seen: Array, whole: Array, samples: int
) -> Float[Array, "all_samples rows"]:
    """log w of `samples` latents from each completion."""
    flat = whole.reshape(-1, x.shape[1])
    h, log_q = machine.sample_q(key, flat, samples)
    bottom, first = machine.p[0], machine.q[0]
    assert isinstance(bottom, sampling.Factorised)
    above = machine.log_p(flat, h) - bottom.log_prob(flat, h[0])  # log p(h)
    rest = log_q - first.log_prob(h[0], flat)  # log q(h_2 .. h_L | h_1)
    h_1 = h[0].reshape(
        -1, *x.shape[:1], h[0].shape[-1]
    )  # (samples of all completions, rows, units)
    each = jax.lax.map(lambda one: first.log_prob(h_1, one), whole)
    mixture = logsumexp(each, axis=0) - jnp.log(jnp.float32(len(whole)))
    a = bottom.logits(h_1)
    units = jnp.where(seen[None], x[None] * a - jax.nn.softplus(a), 0)
    return (above - rest).reshape(mixture.shape) - mixture + jnp.sum(units, axis=-1)
