"""The sigmoid belief net, whose units are independent given its input."""

from typing import ClassVar

import numpy as np
from flax import nnx

from bihm.kernels.bernoulli import bernoulli_log_prob, bernoulli_sample
from bihm.machine.layers.conditional import Init, LayerSpec, drive, initial_bias, input_weights
from bihm.types import Array, Bits, Float


class Sbn(nnx.Module):
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

    def sample(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Bits[Array, "*lead units"]:
        return bernoulli_sample(noise, self.logits(y))

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        return bernoulli_log_prob(h, self.logits(y))

    def sample_and_log_prob(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
        logits = self.logits(y)
        h = bernoulli_sample(noise, logits)
        return h, bernoulli_log_prob(h, logits)
