"""The sigmoid belief net, whose units are independent given its input."""

from typing import ClassVar

import numpy as np
from flax import nnx

from bihm.machine.layers.conditional import Init, LayerSpec, drive, initial_bias, input_weights
from bihm.machine.layers.factorised import Factorised
from bihm.types import Array, Bits, Float


class Sbn(Factorised):
    """Sigmoid belief net: p(h_i = 1 | y) = s(b + W y)_i, factorised (Neal 1992)."""

    options: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init, spec: LayerSpec
    ):
        del spec  # it has no options
        self.n_inputs = n_inputs
        self.n_units = n_units
        self.w = input_weights(rng, n_inputs, n_units, init)
        self.b = nnx.Param(initial_bias(n_units, init))

    def logits(self, y: Bits[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        """a = b + W y."""
        return drive(y, self.w, self.b)
