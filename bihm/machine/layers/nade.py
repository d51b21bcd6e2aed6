"""The conditional neural autoregressive distribution estimator: hidden units that follow the bits drawn."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import stop_gradient

from bihm.kernels.bernoulli import bernoulli_log_prob
from bihm.kernels.numerics import on_device
from bihm.machine.layers.conditional import (
    Init,
    LayerSpec,
    drive,
    hidden_weights,
    initial_bias,
    initial_weights,
    input_weights,
    plus,
)
from bihm.machine.layers.nade_walk import draw_units, hidden_terms, known_hidden_terms
from bihm.machine.layers.order import in_order, in_place, initial_order
from bihm.types import Array, Bits, Float


class Nade(nnx.Module):
    """p(h_i = 1 | y, h_<i) = s(b + B y + V s(c + C y + M_{<i} h_<i))_i (Larochelle & Murray 2011).

    The conditional form of Bornschein & Bengio 2015. Here `w` is B, `u` is C, and row i of `v` and
    of `m` belongs to unit i. Evaluation and sampling walk over the units, O(hidden) work each.
    """

    options: ClassVar[frozenset[str]] = frozenset({"hidden", "order"})

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init, spec: LayerSpec
    ):
        self.n_inputs = n_inputs
        self.n_units = n_units
        hidden = spec.hidden[0] if spec.hidden else 2 * n_units
        self.w = input_weights(rng, n_inputs, n_units, init)
        self.b = nnx.Param(initial_bias(n_units, init))
        self.u = nnx.Param(hidden_weights(rng, n_inputs, hidden)) if n_inputs else None
        self.c = nnx.Param(on_device(np.zeros(hidden)))  # where the sigmoid is steepest
        self.v = nnx.Param(initial_weights(rng, hidden, n_units, init).T)
        self.m = nnx.Param(hidden_weights(rng, n_units, hidden))
        self.order = initial_order(rng, n_units, spec.order)

    def unit_logits(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead units"]:
        """b + B y + V s(c + C y + M_{<i} h_<i): of each unit, given those before it."""
        base, v, m = self._hidden_inputs(y)
        bits = in_order(jnp.moveaxis(h, -1, 0), self.order)
        terms = hidden_terms(bits, *map(stop_gradient, (base, v, m)))
        return self._logits(y, known_hidden_terms(terms, bits, base, v, m))

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        return bernoulli_log_prob(h, self.unit_logits(h, y))

    def sample(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Bits[Array, "*lead units"]:
        bits, _ = self._draw(noise, y)
        return self._by_unit(bits)

    def sample_and_log_prob(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
        bits, terms = self._draw(noise, y)
        h = self._by_unit(bits)
        terms = known_hidden_terms(terms, bits, *self._hidden_inputs(y))
        return h, bernoulli_log_prob(h, self._logits(y, terms))

    def _hidden_inputs(self, y: Float[Array, "*lead_y inputs"]) -> tuple[Array, Array, Array]:
        """c + C y, and the rows of V and M in the order of the units."""
        v, m = (in_order(x[...], self.order) for x in (self.v, self.m))
        return drive(y, self.u, self.c), v, m

    def _by_unit(self, x: Float[Array, " units *lead"]) -> Float[Array, "*lead units"]:
        return jnp.moveaxis(in_place(x, self.order), 0, -1)

    def _logits(
        self, y: Bits[Array, "*lead_y inputs"], terms: Float[Array, " units *lead"]
    ) -> Float[Array, "*lead units"]:
        return plus(drive(y, self.w, self.b), self._by_unit(terms))

    def _draw(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, " units *lead"], Float[Array, " units *lead"]]:
        """Draw one unit after the other; return them in their order with what V adds to their logits."""
        base, v, m = map(stop_gradient, self._hidden_inputs(y))
        linear = stop_gradient(drive(y, self.w, self.b))
        noise_by_unit, linear_by_unit = (
            in_order(jnp.moveaxis(jnp.broadcast_to(x, noise.shape), -1, 0), self.order)
            for x in (noise, linear)
        )
        return draw_units(noise_by_unit, linear_by_unit, base, v, m)
