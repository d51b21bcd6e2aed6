"""The order in which an autoregressive conditional draws its units."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bihm.kernels.numerics import on_device
from bihm.types import Array, Float


class Untrained(nnx.Param):
    """Numbers of a machine that no gradient moves."""


class Order(Untrained):
    """Which unit is drawn first, second, ...; None in a layer stands for 0, 1, 2, ...

    It is part of the parameters, in float32, because it must be wherever the weights are: in every
    checkpoint and every export. (As a static tuple it would have to be drawn again from the seed, and numpy
    promises no stream of numbers across its versions.) Its gradient is zero, and penalties leave vectors
    alone, so no optimiser moves it.
    """


class LowerTriangular(nnx.Param):
    """A square matrix of which only what couples a unit to earlier ones is ever used."""


def initial_order(rng: np.random.Generator, n_units: int, order: str) -> Order | None:
    """The order a configuration asks for: "natural", or "random" for a permutation from the rng."""
    if order == "natural":
        return None
    return Order(on_device(rng.permutation(n_units)))


def indices(order: Order | None) -> Array | None:
    """The order as integers; an average of equal numbers may be off by a rounding."""
    if order is None:
        return None
    return jnp.round(jax.lax.stop_gradient(order[...])).astype(jnp.int32)


def mask_later(a: Float[Array, "units units"], order: Order | None) -> Float[Array, "units units"]:
    """Keep A_ij only where unit j is drawn before unit i."""
    place = indices(order)
    if place is None:
        return jnp.tril(a, k=-1)
    rank = jnp.argsort(place)
    return jnp.where(rank[:, None] > rank[None, :], a, 0)


def in_order(x: Float[Array, " units *rest"], order: Order | None) -> Float[Array, " units *rest"]:
    """The rows of `x`, one for each unit, in the order of drawing."""
    place = indices(order)
    return x if place is None else x[place]


def in_place(x: Float[Array, " units *rest"], order: Order | None) -> Float[Array, " units *rest"]:
    """The inverse of `in_order`."""
    place = indices(order)
    return x if place is None else x[jnp.argsort(place)]


def free_numbers(variable: nnx.Variable) -> int:
    """How many numbers of a parameter training can move."""
    if isinstance(variable, Untrained):
        return 0
    if isinstance(variable, LowerTriangular):
        n = variable.shape[0]
        return n * (n - 1) // 2
    return int(variable.size)
