"""The randomness of a machine: one stretch of uniform numbers for all of its layers."""

import math
from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bihm.errors import ConfigError
from bihm.kernels.spread import own_counters, parts
from bihm.types import Array, Float, PRNGKey

COUNTERS = 2**32  # of one key; beyond it numbers would repeat


def root_key(seed: int | Array) -> PRNGKey:
    """The key of a seed, of one kind whatever jax's default is: so a seed means the same everywhere."""
    return jax.random.key(seed, impl="threefry2x32")


def uniforms(
    key: PRNGKey, lead: tuple[int, ...], sizes: Sequence[int]
) -> list[Float[Array, "*lead _units"]]:
    """Arrays of shape (*lead, size) of numbers in (0, 1), 23 bits each, from a key's Threefry counters.

    One stretch of counters for all of them, the numbers of each together, because loops over rows of 30
    units fill no vectors. They are cheap enough to be computed where they are compared, in the same loop.
    Where rows, the last axis of `lead`, are spread over devices, they are those of this device's rows.
    """
    # Words drawn from the key, not its data: so jax's check for keys used twice sees this use.
    words = jax.random.bits(key, (2,), jnp.uint32)
    rows = math.prod(lead) * parts()
    if rows * sum(sizes) > COUNTERS:
        raise ConfigError(
            f"{rows} rows of {sum(sizes)} units need more than 2**32 random numbers at once; "
            "ask for fewer rows or samples"
        )
    starts = [rows * before for before in accumulate(sizes, initial=0)]
    return [
        _numbers(words, start, lead, size).reshape(*lead, size)
        for start, size in zip(starts, sizes, strict=False)
    ]


def uniform(key: PRNGKey, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """One array of such numbers, of any shape with at least one axis."""
    return uniforms(key, shape[:-1], shape[-1:])[0]


def _numbers(words: Array, start: int, lead: tuple[int, ...], size: int) -> Float[Array, " count"]:
    counters = jnp.uint32(start) + own_counters(math.prod(lead[:-1]), math.prod(lead[-1:]) * size)
    return unit_interval(_threefry(words, counters))


def unit_interval(word: Array) -> Array:
    """23 random bits k as the mantissa of a number in [1, 2), moved to (k + 1/2) / 2^23.

    With k / 2^23 a bit of any tiny probability would be drawn once in 2^23 times, for k = 0, and its
    weight p / q be beyond all bounds: estimates of log p would exceed the truth.
    """
    mantissa = (word >> 9) | jnp.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1 - 2**-24)  # exact


def _threefry(key: Array, counter: Array) -> Array:
    """The first word of Threefry-2x32 with 20 rounds (Salmon et al. 2011) for blocks (counter, 0).

    The compiler makes no loop with two results, so that the second word would cost as much as a block.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = counter + keys[0], jnp.broadcast_to(keys[1], counter.shape)
    for i in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            a = lax.add(a, b)
            b = lax.bitwise_xor(a, _rotate(b, distance))
        a, b = a + keys[(i + 1) % 3], b + (keys[(i + 2) % 3] + jnp.uint32(i + 1))
    return a


def _rotate(word: Array, distance: int) -> Array:
    # Here and above lax's functions: operators took 0.2 s to trace in a machine of 12 layers, these 0.12.
    left, right = np.uint32(distance), np.uint32(32 - distance)
    return lax.bitwise_or(lax.shift_left(word, left), lax.shift_right_logical(word, right))
