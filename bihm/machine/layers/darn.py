"""The autoregressive sigmoid belief net: each unit sees the input and the units before it."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import stop_gradient

from bihm.kernels.bernoulli import bernoulli_log_prob, bernoulli_sample
from bihm.kernels.products import product, small_product
from bihm.machine.layers.conditional import (
    Init,
    LayerSpec,
    drive,
    initial_bias,
    initial_weights,
    input_weights,
    plus,
)
from bihm.machine.layers.order import LowerTriangular, in_order, in_place, initial_order, mask_later
from bihm.types import Array, Bits, Float


class Darn(nnx.Module):
    """p(h_i = 1 | y, h_<i) = s(b + W y + A h)_i, A strictly lower triangular (Gregor et al. 2014).

    Evaluation is one product for W y and one for A h, each with the leading axes its own argument has. A
    sample draws unit after unit, O(units) work each.
    """

    options: ClassVar[frozenset[str]] = frozenset({"order"})

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init, spec: LayerSpec
    ):
        self.n_inputs = n_inputs
        self.n_units = n_units
        self.w = input_weights(rng, n_inputs, n_units, init)
        self.b = nnx.Param(initial_bias(n_units, init))
        self.order = initial_order(rng, n_units, spec.order)
        a = initial_weights(rng, n_units, n_units, init).T
        # Entries that are masked at every use start at zero, so that no penalty counts them either.
        self.a = LowerTriangular(mask_later(a, self.order))

    def unit_logits(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead units"]:
        """b + W y + A h: of each unit, given those before it."""
        a = mask_later(self.a[...], self.order)
        return plus(drive(y, self.w, self.b), product(h, a.T))

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        return bernoulli_log_prob(h, self.unit_logits(h, y))

    def sample(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Bits[Array, "*lead units"]:
        return self._draw(noise, drive(y, self.w, self.b))

    def sample_and_log_prob(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
        base = drive(y, self.w, self.b)
        h = self._draw(noise, base)
        # Once h is known all logits are one product away; its derivative is cheaper than the scan's.
        a = mask_later(self.a[...], self.order)
        return h, bernoulli_log_prob(h, plus(base, product(h, a.T)))

    def _draw(
        self, noise: Float[Array, "*lead units"], base: Float[Array, "*lead_y units"]
    ) -> Bits[Array, "*lead units"]:
        """Draw one unit after the other; `base` is b + W y.

        A unit's logit is one product of its row of A with the units so far. Adding a column of A to all
        logits instead is as much arithmetic, but writes what this only reads: 2 to 3 times slower.
        """
        # Units not drawn yet are zeros in `h`, so nothing of A need be masked here.
        rows = in_order(stop_gradient(self.a[...]), self.order)
        rows = in_order(rows.T, self.order).T
        base = jnp.broadcast_to(stop_gradient(base), noise.shape)
        flat = [
            in_order(x.reshape(-1, self.n_units).T, self.order) for x in (noise, base)
        ]  # (units, lead)

        def draw(h: Float[Array, "units flat"], step: tuple[Array, ...]) -> tuple[Array, None]:
            i, noise_i, base_i, row = step
            h_i = bernoulli_sample(noise_i, base_i + small_product(row, h))
            return jax.lax.dynamic_update_index_in_dim(h, h_i, i, 0), None

        steps = (jnp.arange(self.n_units), *flat, rows)
        h, _ = jax.lax.scan(draw, jnp.zeros_like(flat[0]), steps)
        return in_place(h, self.order).T.reshape(noise.shape)
