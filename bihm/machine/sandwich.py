"""log p between two estimates, on rows that the machine itself dreamt: their true latents are known.

For (x, h_0) ~ p, h_0 is a sample of the posterior p(h | x). With h_1 .. h_K ~ q(h | x),

    lower = log (1/K) (w_1 + .. + w_K)        E[lower] <= log p(x)
    upper = log (1/K) (w_0 + .. + w_{K-1})    E[upper] >= log p(x)

since the mean of K weights with one from the posterior among them has E[1 / mean] = 1 / p(x) (and the other
one E[mean] = p(x)): both by Jensen's inequality. See Sobolev & Vetrov (2019) on such upper bounds.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihm.kernels.compiled import fast_jit
from bihm.machine.likelihood import (
    Sums,
    add_weights,
    count_blocks,
    estimates_of,
    log_weights,
    no_weights,
)
from bihm.machine.machine import Params, Structure, bind
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey


class Sandwich(NamedTuple):
    """Dreamt rows, and the two estimates of the log p of each, in nats."""

    x: Bits[AnyArray, "rows visible"]
    lower: Float[AnyArray, " rows"]
    upper: Float[AnyArray, " rows"]


@partial(fast_jit, static_argnames=("structure", "rows", "block"))
def sandwich_tile(
    key: PRNGKey, structure: Structure, params: Params, K: Array, *, rows: int, block: int
) -> Sandwich:
    """Dream so many rows, and estimate the log p of each from K samples, `block` of them at a time.

    Both estimates share w_1 .. w_{K-1}, so that their difference is far less noisy than they are.
    """
    machine = bind(structure, params)
    dream_key, sample_key = jax.random.split(key)

    def add_block(i: Array, both: tuple[Sums, Sums]) -> tuple[Sums, Sums]:
        log_w = log_weights(jax.random.fold_in(sample_key, i), machine, x, block)
        left = (K - i * block - jnp.arange(block))[:, None]
        lower = add_weights(both[0], jnp.where(left > 0, log_w, -jnp.inf))
        return lower, add_weights(both[1], jnp.where(left > 1, log_w, -jnp.inf))

    x, h = machine.sample_p(dream_key, rows)
    true = machine.log_p(x, h) - machine.log_q(x, h)
    nothing = no_weights(rows)
    sums = nothing, add_weights(nothing, true[None])
    sums = jax.lax.fori_loop(0, count_blocks(K, block), add_block, sums)
    lower, upper = (estimates_of(one, K).log_p for one in sums)
    return Sandwich(x, lower, upper)
