"""Independent bits given their logits: samples, log-probabilities and their derivative."""

import jax
import jax.numpy as jnp

from bihm.kernels.compiled import on_processor
from bihm.kernels.numerics import in_groups, in_parts, in_rank, largest_divisor, sum_to
from bihm.types import Array, Bits, Float


def bernoulli_log_prob(
    h: Bits[Array, "*lead_h units"], logits: Float[Array, "*lead_a units"]
) -> Float[Array, "*lead"]:
    """log p(h|a) = sum_i h_i a_i - softplus(a_i), in nats.

    `h` and `logits` may have different leading axes if these broadcast; what depends on the logits alone
    is computed once for all `h`. The derivative with respect to the logits is `h - sigmoid(a)`; `h` is a
    constant.
    """
    return _log_prob(h, logits)


def bernoulli_sample(
    noise: Float[Array, "*lead units"], logits: Float[Array, "*lead_a units"]
) -> Bits[Array, "*lead units"]:
    """Return one bit per unit, 1 where `noise < sigmoid(logits)`; `noise` is uniform on (0, 1)."""
    mean = in_rank(jax.nn.sigmoid(jax.lax.stop_gradient(logits)), noise.ndim)
    return _written((noise < mean).astype(noise.dtype))


def _written(h: Bits[Array, "*any"]) -> Bits[Array, "*any"]:
    """The bits themselves, and on a processor a hint to write them to memory.

    The compiler repeats cheap work in every loop that uses its result, but never costly work like a square
    root. (It removes `optimization_barrier` before it forms loops.) Elsewhere sqrt(1) may not be 1.
    """
    return jnp.sqrt(h) if on_processor() else h


@jax.custom_vjp
def _log_prob(h: Array, a: Array) -> Array:
    h, wide = in_rank(h, a.ndim), in_rank(a, h.ndim)
    if not on_processor():  # one sum over units joins the kernel that draws h
        softplus = jnp.maximum(wide, 0) + jnp.log1p(jnp.exp(-jnp.abs(wide)))
        return jnp.sum(h * wide - softplus, axis=-1)
    if _is_whole(a, h):
        return _sum_log(h * a - jnp.maximum(a, 0), a)
    linear = jnp.sum(h * wide, axis=-1)
    return linear + in_rank(_sum_log(-jnp.maximum(a, 0), a), linear.ndim)


def _is_whole(a: Array, h: Array) -> bool:
    """Whether `a` has every axis that `h` has."""
    return a.shape == jnp.broadcast_shapes(a.shape, h.shape)


def _sum_log(linear: Array, a: Array) -> Array:
    """sum_i linear_i - log(1 + exp(-|a_i|)) over the last axis.

    Up to 16 units make a group, and up to 7 groups share one logarithm, of their product: 112 factors in
    [1, 2] cannot overflow it, and the rounding of 1 + e costs at most 6e-8 nats a unit. One reduction makes
    both sums of a group, so that nothing is written to memory but its results.
    """
    parts = [in_groups(linear), in_groups(1 + jnp.exp(-jnp.abs(a)))]
    total, product = jax.lax.reduce(
        parts, [jnp.zeros((), a.dtype), jnp.ones((), a.dtype)],
        lambda x, y: (x[0] + y[0], x[1] * y[1]), [a.ndim - 1],
    )  # fmt: skip
    product = jnp.prod(in_parts(product, largest_divisor(product.shape[-1], 7)), axis=-2)
    return jnp.sum(total, axis=-1) - jnp.sum(jnp.log(product), axis=-1)


def _log_prob_forward(h: Array, a: Array) -> tuple[Array, tuple[Array, Array]]:
    return _log_prob(h, a), (h, a)


def _log_prob_backward(saved: tuple[Array, Array], g: Array) -> tuple[None, Array]:
    # Samples and data are constants of every rule, so `h` has no derivative to pay for.
    h, a = saved
    mean = jax.nn.sigmoid(a)
    if _is_whole(a, h):
        return None, g[..., None] * (in_rank(h, a.ndim) - mean)
    lead = a.shape[:-1]
    return None, sum_to(g[..., None] * h, lead) - sum_to(g[..., None], lead) * mean


_log_prob.defvjp(_log_prob_forward, _log_prob_backward)
