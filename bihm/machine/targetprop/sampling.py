"""Samples and completions by target propagation: GENERATE and INPAINT of Algorithm 2, and a chain."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool

from bihm.machine.targetprop.machine import Inference, Layers, TargetPropMachine, encode, infer
from bihm.machine.targetprop.training import Noise, corrupt
from bihm.types import Array, Float, PRNGKey


def directed(
    key: PRNGKey, machine: TargetPropMachine, samples: int, variance: float
) -> Float[Array, "samples visible"]:
    """Means of x from the top down: h_L ~ N(mean, variance times that of inferred h_L), then g_L .. g_1."""
    mean, spread = machine.top_mean[...], jnp.sqrt(variance * machine.top_variance[...])
    noise = jax.random.normal(key, (samples, mean.size))
    y: Array = mean[None] + spread[None] * noise
    for g in reversed(machine.g):
        y = g(y)
    return y


def generate(
    key: PRNGKey,
    machine: TargetPropMachine,
    samples: int,
    *,
    variance: float,
    rounds: int,
    inference: Inference,
) -> Float[Array, "samples visible"]:
    """GENERATE: directed samples, then `rounds` times h = INFERENCE(x), x = g_1(h_1)."""
    x = directed(key, machine, samples, variance)
    refined: Array = jax.lax.fori_loop(
        0, rounds, lambda i, x: infer(machine, x, inference).below[0], x
    )
    return refined


def complete(
    key: PRNGKey,
    machine: TargetPropMachine,
    x: Float[Array, "batch visible"],
    observed: Bool[Array, "batch visible"],
    *,
    sweeps: int,
    inference: Inference,
) -> Float[Array, "batch visible"]:
    """INPAINT: what is missing starts as uniform noise and becomes g_1(h_1), `sweeps` times.

    Inference is driven by f_1 of x with g_1(h_1) in the missing places; what is observed never changes.
    """

    def sweep(i: Array, filled: Array) -> Array:
        rebuilt = infer(machine, filled, inference, observed=observed).below[0]
        return jnp.where(observed, x, rebuilt)

    first = jnp.where(observed, x, jax.random.uniform(key, x.shape))
    filled: Array = jax.lax.fori_loop(0, sweeps, sweep, first)
    return filled


def chain(
    key: PRNGKey,
    machine: TargetPropMachine,
    x: Float[Array, "batch visible"],
    *,
    sweeps: int,
    noise: Noise,
) -> Float[Array, "batch visible"]:
    """The joint denoiser's chain (section 5.1): corrupt all layers, then rebuild each from its neighbours,

    h_l from below, f_l, or from above, g_{l+1}, with probability 1/2 each, for each row.
    """
    first: Layers = [x, *encode(machine, x)]

    def sweep(number: Array, layers: Layers) -> Layers:
        noise_key, side_key = jax.random.split(jax.random.fold_in(key, number))
        noisy = corrupt(noise_key, layers, noise)
        sides = jax.random.bernoulli(side_key, 0.5, (len(layers), len(x), 1))
        new = [machine.g[0](noisy[1])]
        for i in range(1, len(layers)):
            up = machine.f[i - 1](noisy[i - 1])
            above = i + 1 < len(layers)
            new.append(jnp.where(sides[i], up, machine.g[i](noisy[i + 1])) if above else up)
        return new

    layers: Layers = jax.lax.fori_loop(0, sweeps, sweep, first)
    return layers[0]
