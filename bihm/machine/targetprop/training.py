"""Training without back-propagation: inferred latents are targets, each map has an error of its own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bihm.kernels.numerics import on_device
from bihm.kernels.spread import own_draw
from bihm.machine.layers.order import Untrained
from bihm.machine.machine import Params, Structure
from bihm.machine.targetprop.machine import (
    Inference,
    Layers,
    TargetPropMachine,
    bind,
    frozen,
    infer,
    log_p_terms,
)
from bihm.types import Array, Float, PRNGKey


class Noise(NamedTuple):
    """What is added to the inputs of the maps in training, the targets staying clean."""

    x: float = 0.4  # standard deviation on x, the input of f_1
    h: float = 0.5  # on h_1 .. h_{L-1}
    spikes: int = 3  # the top is the mean of so many Bernoulli draws; 0: itself


class Info(NamedTuple):
    """What an observer of a step may want, for each row."""

    log_p_xh: Float[Array, " batch"]  # log p(x, h) after inference, without prior and constant
    x_error: Float[Array, " batch"]  # |x - g_1(h_1)|^2
    mismatch: Float[
        Array, " batch"
    ]  # sum_{l>=1} |h_l - g_{l+1}(h_{l+1})|^2: large where targets run away


def targetprop(
    key: PRNGKey,
    machine: TargetPropMachine,
    x: Float[Array, "batch visible"],
    step: Array | None = None,
    *,
    inference: Inference,
    noise: Noise,
) -> tuple[Float[Array, ""], Info]:
    """TRAIN of Algorithm 2: the mean over the batch of

        sum_l |g_l(h~_l) - h_{l-1}|^2 + |f_l(h~_{l-1}) - h_l|^2,

    where h = INFERENCE(x) and the noisy h~ are constants: no derivative passes from one map to another.
    """
    del step  # the rule is the same throughout
    errors, info = map_errors(key, machine, x, inference=inference, noise=noise)
    return jnp.mean(jnp.sum(errors, axis=(0, 1))), info


def map_errors(
    key: PRNGKey,
    machine: TargetPropMachine,
    x: Float[Array, "batch visible"],
    *,
    inference: Inference,
    noise: Noise,
) -> tuple[Float[Array, "layers 2 batch"], Info]:
    """The squared error of each f_l and of each g_l, summed over units, for each row."""
    infer_key, noise_key = jax.random.split(key)
    state = infer(frozen(machine), x, inference, key=infer_key if inference.langevin else None)
    clean = [x, *state.h]
    noisy = corrupt(noise_key, clean, noise)
    errors = [
        [
            jnp.sum((f.of_constant(noisy[i]) - clean[i + 1]) ** 2, axis=-1),
            jnp.sum((g.of_constant(noisy[i + 1]) - clean[i]) ** 2, axis=-1),
        ]
        for i, (f, g) in enumerate(zip(machine.f, machine.g, strict=True))
    ]
    terms = log_p_terms(x, state)
    mismatch = sum((-2 * term for term in terms[1:]), start=jnp.zeros(len(x)))
    info = Info(sum(terms[1:], start=terms[0]), -2 * terms[0], mismatch)
    return jnp.stack([jnp.stack(pair) for pair in errors]), info


def corrupt(key: PRNGKey, layers: Layers, noise: Noise) -> Layers:
    """Noisy h~_0 .. h~_L: Gaussian noise, and at the top "spikes" of probability h_L clipped to [0, 1]."""
    keys = jax.random.split(key, len(layers))
    scales = [noise.x, *[noise.h] * (len(layers) - 2)]
    noisy = [
        one + scale * own_draw(jax.random.normal, k, one.shape) if scale else one
        for k, one, scale in zip(keys[:-1], layers[:-1], scales, strict=True)
    ]
    top = layers[-1]
    if noise.spikes:
        u = own_draw(jax.random.uniform, keys[-1], (noise.spikes, *top.shape), axis=1)
        top = jnp.mean(u < jnp.clip(top, 0, 1)[None], axis=0, dtype=jnp.float32)
    return [*noisy, top]


def top_moments(
    machine: TargetPropMachine, x: Float[Array, "rows visible"], how: Inference
) -> Float[Array, "2 units"]:
    """Sums over rows of the inferred h_L and of its square, about 1/2 so that little cancels."""
    top = infer(machine, x, how).h[-1] - 0.5
    return jnp.stack([jnp.sum(top, axis=0), jnp.sum(top**2, axis=0)])


def with_top(structure: Structure, params: Params, sums: np.ndarray, rows: int) -> Params:
    """Parameters with the mean and variance of the inferred h_L that these sums over rows make."""
    machine = bind(structure, params)
    mean, square = np.asarray(sums, np.float64) / rows
    machine.top_mean = Untrained(on_device(mean + 0.5))
    machine.top_variance = Untrained(on_device(np.maximum(square - mean**2, 0)))
    new: Params = nnx.split(machine, nnx.Param)[1]
    return new
