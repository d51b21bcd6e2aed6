"""Arrays in, arrays out: Bernoulli log-probabilities, weights, and sums over samples in log space."""

import math
from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from bihm.types import Array, Bits, Float, PRNGKey


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
    mean = _in_rank(jax.nn.sigmoid(jax.lax.stop_gradient(logits)), noise.ndim)
    # A barrier, or the compiler draws the bits once more wherever they are used.
    return _written((noise < mean).astype(noise.dtype))


def _written(h: Bits[Array, "*any"]) -> Bits[Array, "*any"]:
    """The bits themselves, and a hint to write them to memory.

    The compiler repeats cheap work in every loop that uses its result, and costly work like a square root
    only once. (It removes `optimization_barrier` before it forms loops.)
    """
    return jnp.sqrt(h)


def _in_rank(x: Array, rank: int) -> Array:
    return x.reshape((1,) * (rank - x.ndim) + x.shape)


@jax.custom_vjp
def _log_prob(h: Array, a: Array) -> Array:
    h, wide = _in_rank(h, a.ndim), _in_rank(a, h.ndim)
    if _is_whole(a, h):
        return _sum_log(h * a - jnp.maximum(a, 0), a)
    linear = jnp.sum(h * wide, axis=-1)
    return linear + _in_rank(_sum_log(-jnp.maximum(a, 0), a), linear.ndim)


def _is_whole(a: Array, h: Array) -> bool:
    """Whether `a` has every axis that `h` has."""
    return a.shape == jnp.broadcast_shapes(a.shape, h.shape)


def _sum_log(linear: Array, a: Array) -> Array:
    """sum_i linear_i - log(1 + exp(-|a_i|)) over the last axis.

    Up to 16 units share one logarithm, of their product: factors in [1, 2] cannot overflow it, and the
    rounding of 1 + e costs at most 6e-8 nats a unit. One reduction makes both sums of such a group, so that
    nothing is written to memory but its results.
    """
    parts = [_in_groups(linear), _in_groups(1 + jnp.exp(-jnp.abs(a)))]
    total, product = jax.lax.reduce(
        parts, [jnp.zeros((), a.dtype), jnp.ones((), a.dtype)],
        lambda x, y: (x[0] + y[0], x[1] * y[1]), [a.ndim - 1],
    )  # fmt: skip
    return jnp.sum(total - jnp.log(product), axis=-1)


def _in_groups(x: Array) -> Array:
    """The last axis as an axis of up to 16 numbers and one of such groups."""
    size = _group_size(x.shape[-1])
    return x.reshape(*x.shape[:-1], size, x.shape[-1] // size)


def _group_size(units: int) -> int:
    """Large groups need few logarithms, but a loop over groups is fast where it fills vectors.

    Measured on AVX-512: 300 units took 0.59 ms as 20 groups of 15 and 0.42 ms as 25 of 12; 30 units
    0.23 ms as 2 of 15 and 0.07 ms as 5 of 6.
    """
    sizes = [n for n in range(1, 17) if units % n == 0 and (n == 1 or units // n >= 5)]
    filling = [n for n in sizes if n >= 4 and units // n >= 24 and units // n % 8 <= 1]
    return max(filling or sizes)


def euclidean_norm(x: Float[Array, " numbers"]) -> Float[Array, ""]:
    """The square root of sum_i x_i^2, first in groups: one long sum is slow on a processor."""
    parts = jnp.sum(_in_groups(x * x), axis=-2)
    return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(parts)))  # or both sums become one


def _log_prob_forward(h: Array, a: Array) -> tuple[Array, tuple[Array, Array]]:
    return _log_prob(h, a), (h, a)


def _log_prob_backward(saved: tuple[Array, Array], g: Array) -> tuple[None, Array]:
    # Samples and data are constants of every rule, so `h` has no derivative to pay for.
    h, a = saved
    mean = jax.nn.sigmoid(a)
    if _is_whole(a, h):
        return None, g[..., None] * (_in_rank(h, a.ndim) - mean)
    lead = a.shape[:-1]
    return None, sum_to(g[..., None] * h, lead) - sum_to(g[..., None], lead) * mean


_log_prob.defvjp(_log_prob_forward, _log_prob_backward)


def sum_to(x: Float[Array, "*lead units"], lead: tuple[int, ...]) -> Float[Array, "*less units"]:
    """Sum over the leading axes that an argument of leading shape `lead` was broadcast over."""
    x = jnp.sum(x, axis=tuple(range(x.ndim - 1 - len(lead))))
    stretched = tuple(i for i, n in enumerate(lead) if n == 1 and x.shape[i] != 1)
    return jnp.sum(x, axis=stretched, keepdims=True)


def uniforms(
    key: PRNGKey, lead: tuple[int, ...], sizes: Sequence[int]
) -> list[Float[Array, "*lead _units"]]:
    """Arrays of shape (*lead, size) of numbers in [0, 1), 23 bits each, from a key's Threefry counters.

    One draw for all of them, because small ones take longer to compile and to run, and the numbers of each
    together in memory, because loops over rows of 30 units fill no vectors. The counters come in two turns
    of a loop: without it the compiler would compute the numbers again wherever some of them are used.
    """
    # Words drawn from the key, not its data: so jax's check for keys used twice sees this use.
    words = jax.random.bits(key, (2,), jnp.uint32)
    rows = math.prod(lead)
    half = -(-rows * sum(sizes) // 2)

    def turn(first: Array) -> Array:
        return _unit_interval(_threefry(words, first + jax.lax.iota(jnp.uint32, half)))

    numbers = jax.lax.map(turn, jnp.asarray([0, half], jnp.uint32)).reshape(-1)
    ends = list(accumulate(rows * size for size in sizes))
    return [
        numbers[end - rows * size : end].reshape(*lead, size)
        for size, end in zip(sizes, ends, strict=True)
    ]


def _unit_interval(word: Array) -> Array:
    """23 random bits as the mantissa of a number in [1, 2), minus 1."""
    mantissa = (word >> 9) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1


def _threefry(key: Array, counter: Array) -> Array:
    """The first word of Threefry-2x32 with 20 rounds (Salmon et al. 2011) for blocks (counter, 0).

    The compiler makes no loop with two results, so that the second word would cost as much as a block.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = counter + keys[0], jnp.broadcast_to(keys[1], counter.shape)
    for i in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            a = a + b
            b = a ^ (b << distance | b >> 32 - distance)
        a, b = a + keys[(i + 1) % 3], b + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return a


def log_mean_exp(x: Float[Array, " samples *rest"]) -> Float[Array, "*rest"]:
    """log (1/K) sum_k exp(x_k) over the leading axis."""
    return logsumexp(x, axis=0) - jnp.log(jnp.asarray(x.shape[0], x.dtype))


def normalised_weights(log_w: Float[Array, " samples *rest"]) -> Float[Array, " samples *rest"]:
    """W_k = w_k / sum_j w_j over the leading axis, as a constant to the gradient."""
    return jax.lax.stop_gradient(jax.nn.softmax(log_w, axis=0))


def ess(log_w: Float[Array, " samples *rest"]) -> Float[Array, "*rest"]:
    """Effective sample size as a fraction of K: (sum_k w_k)^2 / (K sum_k w_k^2), in (0, 1]."""
    return jnp.exp(2 * log_mean_exp(log_w) - log_mean_exp(2 * log_w))
