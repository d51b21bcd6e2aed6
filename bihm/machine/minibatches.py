"""Which rows a step sees: an epoch's order, its minibatches, and how it is cut into compiled calls."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihm.kernels.compiled import on_processor
from bihm.kernels.spread import own_draw, own_rows
from bihm.types import Array, Bits, Float, PRNGKey, Rows


def binarise(key: PRNGKey, rows: Rows, grey: bool) -> Bits[Array, "rows visible"]:
    """Turn stored rows into bits; grey levels are drawn anew, P(x_i = 1) = level / 255."""
    if not grey:
        return rows.astype(jnp.float32)
    noise = own_draw(jax.random.uniform, key, rows.shape)
    return (noise * 255 < rows.astype(jnp.float32)).astype(jnp.float32)


def mean_row(rows: Rows, grey: bool) -> Float[Array, " visible"]:
    """How often each bit of stored rows is 1."""
    return jnp.mean(rows, axis=0, dtype=jnp.float32) / (255 if grey else 1)


def soften(
    key: PRNGKey,
    x: Bits[Array, "batch visible"],
    mean: Float[Array, " visible"],
    share: float,
) -> Bits[Array, "batch visible"]:
    """Draw bits anew, P(x'_i = 1) = (1 - s) x_i + s m_i, with s the share and m the `mean_row`."""
    noise = own_draw(jax.random.uniform, key, x.shape)
    return (noise < (1 - share) * x + share * mean[None]).astype(jnp.float32)


See = Callable[[PRNGKey, Rows, bool], Float[Array, "rows visible"]]  # of stored rows


def epoch_order(key: PRNGKey, rows: int) -> Array:
    """A random order of the rows: that of one 32-bit number for each, of ties by place.

    `jax.random.permutation` sorts twice, so that not even a tie of two 32-bit numbers favours a row.
    """
    return order_of(jax.random.bits(key, (rows,), jnp.uint32))


def order_of(numbers: Array) -> Array:
    """`jnp.argsort` of 32-bit numbers.

    On a processor XLA sorts numbers several times faster than pairs, with which argsort finds the places.
    Up to 2^16 places fit beside half a number: one sort by the lower halves, then one by the upper ones.
    """
    if numbers.size > 2**16 or not on_processor():
        return jnp.argsort(numbers)
    place = jnp.arange(numbers.size, dtype=jnp.uint32)

    def sorted_by(half: Array) -> Array:
        return jnp.sort(half << 16 | place) & 0xFFFF

    lower = sorted_by(numbers & 0xFFFF)
    return lower[sorted_by(numbers[lower] >> 16)].astype(jnp.int32)


def take_batch(
    key: PRNGKey,
    rows: Rows,
    order: Array,
    index: Array,
    batch_size: int,
    grey: bool,
    see: See = binarise,
) -> Float[Array, "batch visible"]:
    """Minibatch number `index` of an epoch; the last ones start over at the front of the epoch's order.

    Where rows are spread over devices, this device's part of it.
    """
    picked = own_rows((index * batch_size + jnp.arange(batch_size)) % rows.shape[0])
    return see(key, rows[order[picked]], grey)


class ChunkPlan(NamedTuple):
    """How an epoch is cut: `chunks` compiled calls of `length` steps each."""

    chunks: int
    length: int

    @property
    def steps_per_epoch(self) -> int:
        return self.chunks * self.length


def plan_epoch(rows: int, batch_size: int, longest: int) -> ChunkPlan:
    """Cut an epoch into equal chunks of at most `longest` steps.

    Every row is seen at least once an epoch. Where batches or chunks do not divide evenly, the last
    steps take rows from the front of the epoch's own random order again: no row is dropped, and all
    batches are full.
    """
    batches = -(-rows // batch_size)
    chunks = -(-batches // longest)
    return ChunkPlan(chunks, -(-batches // chunks))
