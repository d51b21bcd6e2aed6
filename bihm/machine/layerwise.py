"""The layerwise scheme of Bornschein et al. (2016) for samples of p*, one layer after another: approximate.

A layer is drawn anew given those beside it, first the even ones, then the odd ones. Its candidates come
from the mixture (1/2) p(h_l | h_{l+1}) + (1/2) q(h_l | h_{l-1}), those of x from p(x | h_1), and one is
chosen by the weight

    sqrt(p(h_{l-1} | h_l) p(h_l | h_{l+1}) q(h_l | h_{l-1}) q(h_{l+1} | h_l)) / (density of the candidates).

q(x) := p*(x), which nobody can evaluate, is left out. With the present layer among the candidates, as here,
the moves leave rho(x, h) ∝ sqrt(p(x, h) q(h | x)) invariant for any number of them: given x that is
p*(h | x), but its x are those of sqrt(p~*(x)), up to a constant, and not of p~*(x). They are more diverse
than samples of p*, and less probable. The chain of `sampling.py` has no such error.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Integer

from bihm.kernels.noise import uniform
from bihm.kernels.numerics import ess
from bihm.machine.layers.conditional import Sequential
from bihm.machine.layers.factorised import Factorised
from bihm.machine.machine import HelmholtzMachine
from bihm.machine.sampling import Chain, SweepInfo, held, log_prob_where
from bihm.types import Array, Bits, Float, PRNGKey


def run_layerwise(
    key: PRNGKey,
    machine: HelmholtzMachine,
    chain: Chain,
    observed: Bool[Array, "batch visible"],
    first: Integer[Array, ""],
    *,
    sweeps: int,
    K: int,
) -> tuple[Chain, SweepInfo]:
    """Do `sweeps` sweeps with K candidates for each layer, as `run_chain` does its own; one replica."""
    order = [*range(0, len(machine.p), 2), *range(1, len(machine.p), 2)]

    def body(layers: list[Array], number: Array) -> tuple[list[Array], SweepInfo]:
        layers, moved, even = list(layers), jnp.zeros(()), jnp.zeros(())
        keys = jax.random.split(jax.random.fold_in(key, number), len(order))
        for own, i in zip(keys, order, strict=True):
            draw_key, choice_key = jax.random.split(own)
            if i == 0:
                all_h, log_g = _candidates_for_x(draw_key, machine, layers, observed, K)
            else:
                all_h, log_g = _candidates(draw_key, machine, layers, i, K)
            log_w = _log_target(machine, layers, i, all_h) - log_g
            chosen = jax.random.categorical(choice_key, log_w, axis=0)
            layers[i] = jnp.take_along_axis(all_h, chosen[None, :, None], axis=0)[0]
            even += jnp.mean(ess(log_w)) / len(order)
            if i == 0:
                moved = jnp.mean(chosen > 0)
        return layers, SweepInfo(moved, even)

    layers = [chain.x, *(h[0] for h in chain.h)]
    layers, info = jax.lax.scan(body, layers, first + jnp.arange(sweeps))
    return Chain(layers[0], [h[None] for h in layers[1:]]), info


def _above(layers: list[Array], i: int) -> Array:
    """What layer i is drawn from by p: the layer above, or for the top nothing."""
    return layers[i + 1] if i + 1 < len(layers) else jnp.zeros((len(layers[0]), 0), jnp.float32)


def _log_target(
    machine: HelmholtzMachine, layers: list[Array], i: int, h: Bits[Array, "K batch units"]
) -> Float[Array, "K batch"]:
    """Half the sum of those log-probabilities that layer i has a part in, for candidates of it."""
    total = machine.p[i].log_prob(h, _above(layers, i))
    if i > 0:
        total += machine.p[i - 1].log_prob(layers[i - 1], h)
        total += machine.q[i - 1].log_prob(h, layers[i - 1])
    if i + 1 < len(layers):
        total += machine.q[i].log_prob(layers[i + 1], h)
    return total / 2


def _candidates(
    key: PRNGKey, machine: HelmholtzMachine, layers: list[Array], i: int, K: int
) -> tuple[Bits[Array, "K batch units"], Float[Array, "K batch"]]:
    """The present h_l and K - 1 others, with the log density of the mixture."""
    noise_key, coin_key = jax.random.split(key)
    p, q, above, below = machine.p[i], machine.q[i - 1], _above(layers, i), layers[i - 1]
    noise = uniform(noise_key, (K - 1, *layers[i].shape))
    from_p = jax.random.bernoulli(coin_key, shape=noise.shape[:2])[..., None]
    fresh = jnp.where(from_p, p.sample(noise, above), q.sample(noise, below))
    h = jnp.concatenate([layers[i][None], fresh])
    both = jnp.logaddexp(p.log_prob(h, above), q.log_prob(h, below))
    return h, both - jnp.log(jnp.float32(2))


def _candidates_for_x(
    key: PRNGKey,
    machine: HelmholtzMachine,
    layers: list[Array],
    observed: Bool[Array, "batch visible"],
    K: int,
) -> tuple[Bits[Array, "K batch visible"], Float[Array, "K batch"]]:
    """The present x and K - 1 others that agree with it where it is observed; the density of the rest."""
    layer, now = machine.p[0], layers[0]
    noise = uniform(key, (K - 1, *now.shape))
    x = jnp.concatenate([now[None], layer.sample(held(noise, now, observed), layers[1])])
    if isinstance(layer, Factorised):
        a = layer.logits(layers[1])[None]
    else:
        assert isinstance(layer, Sequential)
        a = layer.unit_logits(x, layers[1])
    return x, log_prob_where(~observed, x, a)
