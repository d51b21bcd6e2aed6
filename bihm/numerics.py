"""Arrays in, arrays out: Bernoulli log-probabilities, weights, and sums over samples in log space."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32
from jax.nn import logsumexp

from bihm.types import Array, Bits, Float, PRNGKey


def affine(
    y: Float[Array, "*lead inputs"], w: Float[Array, "inputs units"], b: Float[Array, " units"]
) -> Float[Array, "*lead units"]:
    """Return `b + y W`, one row per leading index; with no inputs it is `b` alone."""
    a = y @ w
    return a + jnp.broadcast_to(b, a.shape)


@jax.custom_vjp
def _bernoulli_log_prob(h: Array, logits: Array) -> Array:
    return _bernoulli_forward(h, logits)[0]


def _bernoulli_forward(h: Array, logits: Array) -> tuple[Array, Array]:
    # One exponential serves both the value and the derivative: softplus(a) = max(a, 0) + log(1 + e),
    # sigmoid(a) = (1 or e) / (1 + e), with e = exp(-|a|) in (0, 1], so nothing overflows.
    e = jnp.exp(-jnp.abs(logits))
    log_prob = jnp.sum(h * logits - jnp.maximum(logits, 0), axis=-1) - _sum_log1p(e)
    residual = h - jnp.where(logits >= 0, 1, e) / (1 + e)
    return log_prob, residual


def _sum_log1p(e: Array) -> Array:
    """sum_i log(1 + e_i) over the last axis for e in [0, 1]: logarithms of products of up to 16 factors.

    Logarithms are half of a log-probability's cost. A product of 16 factors in [1, 2] cannot overflow, and
    the rounding of 1 + e costs at most 6e-8 nats a unit.
    """
    units = e.shape[-1]
    group = max(size for size in range(1, 17) if units % size == 0)
    products = jnp.prod(1 + e.reshape(*e.shape[:-1], group, units // group), axis=-2)
    return jnp.sum(jnp.log(products), axis=-1)


def _bernoulli_backward(residual: Array, g: Array) -> tuple[None, Array]:
    # Samples and data are constants of every rule, so `h` has no derivative to pay for.
    return None, g[..., None] * residual


_bernoulli_log_prob.defvjp(_bernoulli_forward, _bernoulli_backward)


def bernoulli_log_prob(
    h: Bits[Array, "*lead_h units"], logits: Float[Array, "*lead_a units"]
) -> Float[Array, "*lead"]:
    """log p(h|a) = sum_i h_i a_i - softplus(a_i), in nats.

    `h` and `logits` may have different leading axes if these broadcast. The derivative with respect
    to the logits is `h - sigmoid(a)`; `h` is a constant.
    """
    shape = jnp.broadcast_shapes(h.shape, logits.shape)
    return _bernoulli_log_prob(jnp.broadcast_to(h, shape), jnp.broadcast_to(logits, shape))


def bernoulli_sample(
    noise: Float[Array, "*lead units"], logits: Float[Array, "*lead_a units"]
) -> Bits[Array, "*lead units"]:
    """Return one bit per unit, 1 where `noise < sigmoid(logits)`; `noise` is uniform on [0, 1)."""
    return (noise < jax.nn.sigmoid(jnp.broadcast_to(logits, noise.shape))).astype(noise.dtype)


def uniform(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Numbers in [0, 1), 23 bits each, from the Threefry counters of a key.

    `jax.random.uniform` computes two words for each number and keeps one, so that arrays sharded over
    devices come out alike; this keeps both.
    """
    # Words drawn from the key, not its data: so jax's check for keys used twice sees this use.
    start = jax.random.bits(key, (2,), jnp.uint32)
    words = threefry_2x32(start, jax.lax.iota(jnp.uint32, math.prod(shape)))
    one_to_two = jax.lax.bitcast_convert_type((words >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    return (one_to_two - 1).reshape(shape)


def log_mean_exp(x: Float[Array, " samples *rest"]) -> Float[Array, "*rest"]:
    """log (1/K) sum_k exp(x_k) over the leading axis."""
    return logsumexp(x, axis=0) - jnp.log(jnp.asarray(x.shape[0], x.dtype))


def normalised_weights(log_w: Float[Array, " samples *rest"]) -> Float[Array, " samples *rest"]:
    """W_k = w_k / sum_j w_j over the leading axis, as a constant to the gradient."""
    return jax.lax.stop_gradient(jax.nn.softmax(log_w, axis=0))


def ess(log_w: Float[Array, " samples *rest"]) -> Float[Array, "*rest"]:
    """Effective sample size as a fraction of K: (sum_k w_k)^2 / (K sum_k w_k^2), in (0, 1]."""
    return jnp.exp(2 * log_mean_exp(log_w) - log_mean_exp(2 * log_w))
