"""The conditional neural autoregressive distribution estimator: hidden units that follow the bits drawn."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import stop_gradient

from bihm.layers.conditional import (
    Init,
    LayerSpec,
    drive,
    hidden_weights,
    initial_bias,
    initial_weights,
    input_weights,
    plus,
)
from bihm.layers.order import in_order, in_place, initial_order
from bihm.numerics import bernoulli_log_prob, bernoulli_sample
from bihm.types import Array, Bits, Float


class Nade(nnx.Module):
    """p(h_i = 1 | y, h_<i) = s(b + B y + V s(c + C y + M_{<i} h_<i))_i (Larochelle & Murray 2011).

    The conditional form of Bornschein & Bengio 2015. Here `w` is B, `u` is C, and row i of `v` and
    of `m` belongs to unit i. Evaluation and sampling walk over the units, O(hidden) work each.
    """

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init, spec: LayerSpec
    ):
        self.n_inputs = n_inputs
        self.n_units = n_units
        hidden = spec.hidden[0] if spec.hidden else 2 * n_units
        self.w = input_weights(rng, n_inputs, n_units, init)
        self.b = nnx.Param(initial_bias(n_units, init))
        self.u = nnx.Param(hidden_weights(rng, n_inputs, hidden)) if n_inputs else None
        self.c = nnx.Param(jnp.zeros(hidden, jnp.float32))  # where the sigmoid is steepest
        self.v = nnx.Param(initial_weights(rng, hidden, n_units, init).T)
        self.m = nnx.Param(hidden_weights(rng, n_units, hidden))
        self.order = initial_order(rng, n_units, spec.order)

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        base, v, m = self._hidden_inputs(y)
        bits = in_order(jnp.moveaxis(h, -1, 0), self.order)
        terms = hidden_terms(bits, *map(stop_gradient, (base, v, m)))
        return self._log_prob(h, y, known_hidden_terms(terms, bits, base, v, m))

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
        return h, self._log_prob(h, y, terms)

    def _hidden_inputs(self, y: Float[Array, "*lead_y inputs"]) -> tuple[Array, Array, Array]:
        """c + C y, and the rows of V and M in the order of the units."""
        v, m = (in_order(x[...], self.order) for x in (self.v, self.m))
        return drive(y, self.u, self.c), v, m

    def _by_unit(self, x: Float[Array, " units *lead"]) -> Float[Array, "*lead units"]:
        return jnp.moveaxis(in_place(x, self.order), 0, -1)

    def _log_prob(
        self,
        h: Bits[Array, "*lead_h units"],
        y: Bits[Array, "*lead_y inputs"],
        terms: Float[Array, " units *lead"],
    ) -> Float[Array, "*lead"]:
        logits = plus(drive(y, self.w, self.b), self._by_unit(terms))
        return bernoulli_log_prob(h, logits)

    def _draw(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, " units *lead"], Float[Array, " units *lead"]]:
        """Draw one unit after the other; return them in their order with what V adds to their logits."""
        base, v, m = map(stop_gradient, self._hidden_inputs(y))
        linear = stop_gradient(drive(y, self.w, self.b))
        by_unit = [
            in_order(jnp.moveaxis(jnp.broadcast_to(x, noise.shape), -1, 0), self.order)
            for x in (noise, linear)
        ]

        def draw(
            carry: tuple[Array, Array], step: tuple[Array, ...]
        ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            state, h_before = carry
            noise_i, linear_i, v_i, m_before = step
            state = state + _outer(h_before, m_before)
            term = jax.nn.sigmoid(state) @ v_i
            h_i = bernoulli_sample(noise_i, linear_i + term)
            return (state, h_i), (h_i, term)

        lead = noise.shape[:-1]
        start = (jnp.broadcast_to(base, (*lead, base.shape[-1])), jnp.zeros(lead, noise.dtype))
        _, (bits, terms) = jax.lax.scan(draw, start, (*by_unit, v, _before(m)))
        return bits, terms


def hidden_terms(
    h: Bits[Array, " units *lead_h"],
    base: Float[Array, "*lead_y hidden"],
    v: Float[Array, "units hidden"],
    m: Float[Array, "units hidden"],
) -> Float[Array, " units *lead"]:
    """V_i s(base + M_{<i} h_<i) for each unit i, never more than one unit's hidden layer at a time."""

    def visit(
        moved: Float[Array, "*lead_h hidden"], step: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        h_before, v_i, m_before = step
        moved = moved + _outer(h_before, m_before)
        return moved, jax.nn.sigmoid(plus(base, moved)) @ v_i

    start = jnp.zeros((*h.shape[1:], base.shape[-1]), base.dtype)
    _, terms = jax.lax.scan(visit, start, (_before(h), v, _before(m)))
    return terms


def _before(x: Float[Array, " units *rest"]) -> Float[Array, " units *rest"]:
    """For each unit the row of the one before it, zeros for the first.

    A step that changes its carry first and reads it afterwards can do so in place; the other way
    round, the compiler copies it.
    """
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _outer(h: Array, m: Array) -> Array:
    return h[..., None] * m.reshape(*[1] * h.ndim, -1)


@jax.custom_vjp
def known_hidden_terms(terms: Array, h: Array, base: Array, v: Array, m: Array) -> Array:
    """`terms`, which must be `hidden_terms(h, base, v, m)`, with its derivative in base, v and m.

    The derivative walks the units backwards. It takes their bits out of the hidden layer again, so nothing
    of the forward walk need be kept: memory is that of one unit, and a sampler's walk serves as well.
    """
    return terms


def _forward(
    terms: Array, h: Array, base: Array, v: Array, m: Array
) -> tuple[Array, tuple[Array, ...]]:
    return terms, (h, base, v, m)


def _backward(kept: tuple[Array, ...], g: Array) -> tuple[Array | None, ...]:
    h, base, v, m = kept
    lead = g.shape[1:]

    def visit(
        carry: tuple[Array, Array], step: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        moved, later = carry  # M_{<=i} h_<=i, and what reaches the hidden layers of later units
        h_i, h_before, g_i, v_i, m_i = step
        moved = moved - _outer(h_i, m_i)
        z = jax.nn.sigmoid(plus(base, moved))
        later = later + _outer(g_i, v_i) * z * (1 - z)
        d_m_before = jnp.tensordot(jnp.broadcast_to(h_before, lead), later, len(lead))
        return (moved, later), (jnp.tensordot(g_i, z, len(lead)), d_m_before)

    start = (jnp.tensordot(h, m, ((0,), (0,))), jnp.zeros((*lead, base.shape[-1]), base.dtype))
    steps = (h, _before(h), g, v, m)
    (_, d_hidden), (d_v, d_m_before) = jax.lax.scan(visit, start, steps, reverse=True)
    d_m = jnp.roll(d_m_before, -1, axis=0)  # nothing is before the first: its row is zero
    return None, None, _sum_to(d_hidden, base.shape[:-1]), d_v, d_m


def _sum_to(x: Float[Array, "*lead hidden"], lead: tuple[int, ...]) -> Float[Array, "*less hidden"]:
    """Sum over the leading axes that an argument of leading shape `lead` was broadcast over."""
    x = jnp.sum(x, axis=tuple(range(x.ndim - 1 - len(lead))))
    stretched = tuple(i for i, n in enumerate(lead) if n == 1 and x.shape[i] != 1)
    return jnp.sum(x, axis=stretched, keepdims=True)


known_hidden_terms.defvjp(_forward, _backward)
