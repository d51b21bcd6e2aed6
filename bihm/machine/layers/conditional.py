"""What every conditional p(h | y) shares: its protocol, how its numbers start, and its linear part.

A conditional is anything with the members of `Conditional`: with them it trains, is estimated, and dreams.
It need not factorise over its units. What some uses ask for besides, mostly of p(x | h_1): chains and
completions that it is `Factorised` (`factorised.py`) or `Sequential`; sums over missing bits and Parzen
estimates that it is `Factorised`. A type with neither is refused there, in one line.

All randomness comes in as `noise`, one uniform number per unit, so that a sample is a function of its
arguments and one draw can serve a whole machine.

With `n_inputs = 0` a conditional is a prior: `y` then has an empty last axis.
"""

from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from flax import nnx

from bihm.kernels.numerics import on_device
from bihm.kernels.products import affine_of_constant
from bihm.types import Array, Bits, Float


@runtime_checkable
class Conditional(Protocol):
    """p(h | y) over `n_units` bits given `n_inputs` bits."""

    options: ClassVar[frozenset[str]]  # which of `hidden`, `activation` and `order` it reads
    n_inputs: int
    n_units: int

    def __init__(
        self,
        rng: np.random.Generator,
        n_inputs: int,
        n_units: int,
        init: "Init",
        spec: "LayerSpec",
    ) -> None: ...

    def sample(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Bits[Array, "*lead units"]:
        """Turn uniform `noise` into h ~ p(h | y); `y` may lack leading axes that `noise` has.

        A unit is 1 where its number is below its probability: a number of -1 or 2 fixes it at 1 or at 0.
        """

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        """log p(h | y) in nats; the leading axes of `h` and `y` broadcast."""

    def sample_and_log_prob(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
        """`sample` and the `log_prob` of what it drew, sharing their work."""


@runtime_checkable
class Sequential(Protocol):
    """A conditional whose units are drawn one after the other, each given those before it."""

    def unit_logits(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead units"]:
        """a such that p(h_i = 1 | y, h_<i) = sigmoid(a_i)."""


class Init(NamedTuple):
    """How the parameters of a layer start."""

    weights: str = "authors"  # "authors": Glorot's bound divided by the fan-in; "glorot": the bound
    bias: float | Float[Array, " units"] = -1.0


class LayerSpec(NamedTuple):
    """One conditional as a configuration asks for it; each type reads what concerns it."""

    name: str
    hidden: tuple[int, ...] | None = (
        None  # widths of deterministic layers; None: the type's own rule
    )
    activation: str = "tanh"
    order: str = "natural"  # of autoregressive units, or "random": a permutation drawn from the rng


def initial_weights(
    rng: np.random.Generator, n_in: int, n_out: int, init: Init
) -> Float[Array, "n_in n_out"]:
    """Uniform on +-sqrt(6 / (n_in + n_out)) (Glorot & Bengio 2010), divided by n_in for "authors".

    The authors' code divides the bound by the fan-in once more than their paper says. Numpy draws, on the
    host: two dozen compiled draws of different shapes would take longer than all other set-up.
    """
    bound = (6 / (n_in + n_out)) ** 0.5
    if init.weights == "authors":
        bound /= n_in
    return on_device(rng.uniform(-bound, bound, (n_in, n_out)))


def initial_bias(n_units: int, init: Init) -> Float[Array, " units"]:
    """The output bias of a layer: one number for all units, or one for each."""
    return on_device(np.full(n_units, init.bias, np.float32))


def input_weights(
    rng: np.random.Generator, n_inputs: int, n_units: int, init: Init
) -> nnx.Param | None:
    """W, or None for a prior: no checkpoint format takes an array without entries."""
    return nnx.Param(initial_weights(rng, n_inputs, n_units, init)) if n_inputs else None


def drive(
    y: Bits[Array, "*lead inputs"],
    w: nnx.Param | None,
    b: nnx.Param,
) -> Float[Array, "*lead units"]:
    """b + W y, or `b` alone for a prior, which has no W."""
    if w is None:
        return jnp.broadcast_to(b[...], (*y.shape[:-1], b.shape[0]))
    return affine_of_constant(y, w[...], b[...])


def plus(
    a: Float[Array, "*lead_a units"], b: Float[Array, "*lead_b units"]
) -> Float[Array, "*lead units"]:
    """a + b where the leading axes broadcast, though one may have more of them."""
    shape = jnp.broadcast_shapes(a.shape, b.shape)
    return jnp.broadcast_to(a, shape) + jnp.broadcast_to(b, shape)


def hidden_weights(rng: np.random.Generator, n_in: int, n_out: int) -> Float[Array, "n_in n_out"]:
    """Weights into a deterministic layer: Glorot's bound, whatever `init.weights` says of the others.

    The authors' smaller bound leaves a deterministic layer nearly constant, so that little gradient reaches
    the weights below it: with two of them, 1500 Adam steps on digits did not leave that plateau.
    """
    return initial_weights(rng, n_in, n_out, Init("glorot"))
