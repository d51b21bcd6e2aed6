"""The sigmoid belief net with deterministic layers between its input and its logits."""

import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bihm.kernels.numerics import on_device
from bihm.kernels.products import affine, affine_of_constant
from bihm.machine.layers.conditional import (
    Init,
    LayerSpec,
    drive,
    hidden_weights,
    initial_bias,
    input_weights,
)
from bihm.machine.layers.factorised import Factorised
from bihm.types import Array, Bits, Float

ACTIVATIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}


class Dsbn(Factorised):
    """p(h_i = 1 | y) = s(b + W z)_i, z = f(c + U y), with one or more layers like z.

    As in Bornschein & Bengio 2015. The gradient of log p(h | y) goes through z: these layers draw
    nothing. A prior has no input to transform, and is a plain sigmoid belief net.
    """

    options: ClassVar[frozenset[str]] = frozenset({"hidden", "activation"})

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init, spec: LayerSpec
    ):
        widths = spec.hidden or (-(-(n_inputs + n_units) // 2),)
        if n_inputs == 0:
            widths = ()
        chain = (n_inputs, *widths)
        self.n_inputs = n_inputs
        self.n_units = n_units
        self.activation = spec.activation
        self.u = nnx.List(
            nnx.Param(hidden_weights(rng, below, above))
            for below, above in itertools.pairwise(chain)
        )
        self.w = input_weights(rng, chain[-1], n_units, init)
        self.b = nnx.Param(initial_bias(n_units, init))
        # At zero each hidden unit is where its function is steepest.
        self.c = nnx.List(nnx.Param(on_device(np.zeros(width))) for width in widths)

    def logits(self, y: Bits[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        """a = b + W f(c + U y)."""
        if self.w is None:
            return drive(y, self.w, self.b)
        f, (first, *others) = ACTIVATIONS[self.activation], zip(self.u, self.c, strict=True)
        z = f(affine_of_constant(y, first[0][...], first[1][...]))
        for u, c in others:
            z = f(affine(z, u[...], c[...]))
        return affine(z, self.w[...], self.b[...])
