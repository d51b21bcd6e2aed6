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
    """Return one bit per unit, 1 where `noise < sigmoid(logits)`; `noise` is uniform on [0, 1)."""
    over, under = _odds(logits)
    return _below(noise, over, under)


def bernoulli_sample_and_log_prob(
    noise: Float[Array, "*lead units"], logits: Float[Array, "*lead_a units"]
) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
    """`bernoulli_sample` and the `bernoulli_log_prob` of what it drew, sharing their exponentials."""
    h, log_prob = _draw(noise, logits)
    return jax.lax.stop_gradient(h), log_prob


def _odds(logits: Array) -> tuple[Array, Array]:
    """Two numbers in (0, 1], the larger one 1, that are to each other as p(h = 1) to p(h = 0).

    One exponential serves samples, log-probabilities and derivatives: with e = exp(-|a|), sigmoid(a) is
    (1 or e) / (1 + e) and softplus(a) = max(a, 0) + log(1 + e), and nothing overflows.
    """
    e, positive = jnp.exp(-jnp.abs(logits)), logits >= 0
    return jnp.where(positive, 1, e), jnp.where(positive, e, 1)


def _below(noise: Array, over: Array, under: Array) -> Array:
    over, total = _in_rank(over, noise.ndim), _in_rank(over + under, noise.ndim)
    return (noise * total < over).astype(noise.dtype)


def _in_rank(x: Array, rank: int) -> Array:
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


def _value(h: Array, logits: Array, e: Array) -> Array:
    """sum_i h_i a_i - max(a_i, 0) - log(1 + e_i)."""
    rank = max(h.ndim, logits.ndim)
    h = _in_rank(h, rank)
    if logits.ndim == rank:
        return jnp.sum(h * logits - jnp.maximum(logits, 0), axis=-1) - _sum_log1p(e)
    linear = jnp.sum(h * _in_rank(logits, rank), axis=-1)
    rest = jnp.sum(jnp.maximum(logits, 0), axis=-1) + _sum_log1p(e)
    return linear - _in_rank(rest, rank - 1)


def _sum_log1p(e: Array) -> Array:
    """sum_i log(1 + e_i) over the last axis for e in [0, 1]: logarithms of products of up to 16 factors.

    Logarithms are half of a log-probability's cost. A product of 16 factors in [1, 2] cannot overflow, and
    the rounding of 1 + e costs at most 6e-8 nats a unit.
    """
    units = e.shape[-1]
    group = max(size for size in range(1, 17) if units % size == 0)
    products = jnp.prod(1 + e.reshape(*e.shape[:-1], group, units // group), axis=-2)
    return jnp.sum(jnp.log(products), axis=-1)


Kept = tuple[Array, ...]  # h - sigmoid(a); or h and sigmoid(a), where that lacks axes of h


def _kept(h: Array, over: Array, under: Array) -> Kept:
    mean = over / (over + under)
    rank = max(h.ndim, mean.ndim)
    shape = jnp.broadcast_shapes(h.shape, mean.shape)
    if mean.shape == shape:
        return (_in_rank(h, rank) - mean,)
    return h, mean


def _backward(kept: Kept, g: Array) -> tuple[None, Array]:
    # Samples and data are constants of every rule, so `h` has no derivative to pay for.
    if len(kept) == 1:
        return None, g[..., None] * kept[0]
    h, mean = kept
    lead = mean.shape[:-1]
    weighed = sum_to(g[..., None] * h, lead)
    return None, weighed - sum_to(g[..., None], lead) * mean


@jax.custom_vjp
def _log_prob(h: Array, logits: Array) -> Array:
    over, under = _odds(logits)
    return _value(h, logits, over * under)


def _log_prob_forward(h: Array, logits: Array) -> tuple[Array, Kept]:
    over, under = _odds(logits)
    return _value(h, logits, over * under), _kept(h, over, under)


_log_prob.defvjp(_log_prob_forward, _backward)


@jax.custom_vjp
def _draw(noise: Array, logits: Array) -> tuple[Array, Array]:
    return _draw_forward(noise, logits)[0]


def _draw_forward(noise: Array, logits: Array) -> tuple[tuple[Array, Array], Kept]:
    over, under = _odds(logits)
    h = _below(noise, over, under)
    return (h, _value(h, logits, over * under)), _kept(h, over, under)


_draw.defvjp(_draw_forward, lambda kept, g: _backward(kept, g[1]))


def logistic_log_prob(
    h: Bits[Array, "*lead_h units"],
    y: Bits[Array, "*lead_y inputs"],
    w: Float[Array, "inputs units"],
    b: Float[Array, " units"],
) -> Float[Array, "*lead"]:
    """`bernoulli_log_prob(h, b + y W)`, with the derivative in W and b; the bits h and y are constants."""
    return _logistic(h, y, w, b)


def logistic_sample_and_log_prob(
    noise: Float[Array, "*lead units"],
    y: Bits[Array, "*lead_y inputs"],
    w: Float[Array, "inputs units"],
    b: Float[Array, " units"],
) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
    """`bernoulli_sample_and_log_prob(noise, b + y W)`, with the derivatives of `logistic_log_prob`."""
    h, log_prob = _logistic_draw(noise, y, w, b)
    return jax.lax.stop_gradient(h), log_prob


@jax.custom_vjp
def _logistic(h: Array, y: Array, w: Array, b: Array) -> Array:
    return _log_prob(h, affine(y, w, b))


def _logistic_forward(h: Array, y: Array, w: Array, b: Array) -> tuple[Array, tuple[Array, Kept]]:
    value, kept = _log_prob_forward(h, affine(y, w, b))
    return value, (y, kept)


def _logistic_backward(saved: tuple[Array, Kept], g: Array) -> tuple[None, None, Array, Array]:
    y, kept = saved
    if len(kept) == 1:
        return None, None, *_weighed_sums(y, kept[0], g)
    _, d_logits = _backward(kept, g)
    return None, None, *_weighed_sums(y, d_logits, None)


_logistic.defvjp(_logistic_forward, _logistic_backward)


@jax.custom_vjp
def _logistic_draw(noise: Array, y: Array, w: Array, b: Array) -> tuple[Array, Array]:
    return _draw(noise, affine(y, w, b))


def _logistic_draw_forward(
    noise: Array, y: Array, w: Array, b: Array
) -> tuple[tuple[Array, Array], tuple[Array, Kept]]:
    drawn, kept = _draw_forward(noise, affine(y, w, b))
    return drawn, (y, kept)


_logistic_draw.defvjp(_logistic_draw_forward, lambda saved, g: _logistic_backward(saved, g[1]))


def _weighed_sums(y: Array, r: Array, g: Array | None) -> tuple[Array, Array]:
    """sum g y^T r and sum g r over all leading axes.

    The weights go to the narrower factor, and both are contracted over their rows: automatic
    differentiation would contract over columns, which the compiler makes by a transposing copy.
    """
    n, m = y.shape[-1], r.shape[-1]
    y, r = y.reshape(-1, n), r.reshape(-1, m)
    rows = (((0,), (0,)), ((), ()))
    if g is None:
        return jax.lax.dot_general(y, r, rows), jnp.sum(r, axis=0)
    g = g.reshape(-1, 1)
    weighed = g * r
    y, r = (g * y, r) if n < m else (y, weighed)
    return jax.lax.dot_general(y, r, rows), jnp.sum(weighed, axis=0)


def sum_to(x: Float[Array, "*lead units"], lead: tuple[int, ...]) -> Float[Array, "*less units"]:
    """Sum over the leading axes that an argument of leading shape `lead` was broadcast over."""
    x = jnp.sum(x, axis=tuple(range(x.ndim - 1 - len(lead))))
    stretched = tuple(i for i, n in enumerate(lead) if n == 1 and x.shape[i] != 1)
    return jnp.sum(x, axis=stretched, keepdims=True)


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
