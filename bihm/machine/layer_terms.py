"""What each layer of latents costs and does: KL(q || p) by layer, and how active its units are."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from bihm.kernels.compiled import fast_jit
from bihm.machine.machine import HelmholtzMachine, Latents, Params, Structure, bind
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey

IN_USE = 0.01  # a unit that takes either value less often than this is not in use


class LayerTerms(NamedTuple):
    """Of h_1 .. h_L under q(h | x): a number for each row and layer, and one for each unit."""

    kl: Float[AnyArray, "rows layers"]  # nats; see `kl_terms`
    activity: list[Float[AnyArray, " _units"]]  # the mean of each unit of h_l over rows and samples


def kl_terms(
    machine: HelmholtzMachine, x: Bits[Array, "*lead_x visible"], h: Latents
) -> Float[Array, "... layers"]:
    """log q(h_l | h_{l-1}) - log p(h_l | h_{l+1}) for each layer, in nats, with h_0 = x.

    Their means D_l under q(h | x) are what each layer takes from the evidence bound,

        E_q[log p(x, h) - log q(h | x)] = E_q[log p(x | h_1)] - sum_l D_l,

    and sum_l D_l = KL(q(h | x) || p(h)) >= 0. A layer with D_l = 0 tells nothing about x.
    """
    below, above = [x, *h[:-1]], [*h[1:], jnp.zeros((*h[-1].shape[:-1], 0), jnp.float32)]
    terms = [
        q.log_prob(here, under) - p.log_prob(here, over)
        for q, p, here, under, over in zip(
            machine.q, list(machine.p)[1:], h, below, above, strict=True
        )
    ]
    return jnp.stack(terms, axis=-1)


@partial(fast_jit, static_argnames=("structure", "samples"))
def layer_terms(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Bits[Array, "rows visible"],
    *,
    samples: int,
) -> LayerTerms:
    """The terms of each row from so many samples of q(h | x)."""
    machine = bind(structure, params)
    h, _ = machine.sample_q(key, x, samples)
    kl = jnp.mean(kl_terms(machine, x, h), axis=0)
    return LayerTerms(kl, [jnp.mean(layer, axis=(0, 1)) for layer in h])


def units_in_use(activity: AnyArray) -> int:
    """How many units of a layer take both values, each at least `IN_USE` of the time."""
    means = np.asarray(activity)
    return int(((means >= IN_USE) & (means <= 1 - IN_USE)).sum())
