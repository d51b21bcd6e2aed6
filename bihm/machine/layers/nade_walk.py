"""Walks over the units of a nade layer: its hidden layer moves with every bit, O(hidden) work each.

The hidden layer's input when unit i is drawn is u = base + M_{<i} h_<i, and all that a walk needs of it is
s(u). Carried as e = exp(-u), a bit costs a multiplication and s(u) = 1 / (1 + e) a division, and no step
needs an exponential: half the time. That is exact while no u can leave the range of float32's exponential;
where one could, the walk carries u itself. This is the reason for the two forms below.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bihm.kernels.bernoulli import bernoulli_sample
from bihm.kernels.numerics import in_rank, sum_to
from bihm.kernels.products import small_product, sum_of_products
from bihm.machine.layers.conditional import plus
from bihm.types import Array, Bits, Float

LARGEST_INPUT = 80.0  # exp(+-80) is a normal float32 number with room to spare


class Form(NamedTuple):
    """How a walk carries the hidden layer's input u."""

    carry: Callable[[Array], Array]  # from u, or what is added to it, to what stands for it
    move: Callable[[Array, Array, Array], Array]  # by one unit's bits, with its row of carried M
    activate: Callable[[Array], Array]  # s(u)


SUM = Form(
    carry=lambda u: u,
    move=lambda u, h, row: u + in_rank(_outer(h, row), u.ndim),
    activate=jax.nn.sigmoid,
)
PRODUCT = Form(
    carry=lambda u: jnp.exp(-u),
    move=lambda e, h, row: (
        e * jnp.where(in_rank(h[..., None], e.ndim) > 0, in_rank(row, e.ndim), 1)
    ),
    activate=lambda e: 1 / (1 + e),
)


def draw_units(
    noise: Float[Array, " units *lead"],
    linear: Float[Array, " units *lead"],
    base: Float[Array, "*lead_y hidden"],
    v: Float[Array, "units hidden"],
    m: Float[Array, "units hidden"],
) -> tuple[Bits[Array, " units *lead"], Float[Array, " units *lead"]]:
    """Draw one unit after the other; return the bits and what V adds to their logits."""
    bits, terms = _in_best_form(_draw, base, m, noise, linear, v)
    return bits, terms


def _draw(
    form: Form, base: Array, m: Array, noise: Array, linear: Array, v: Array
) -> tuple[Array, Array]:
    def draw(
        carry: tuple[Array, Array], step: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state, h_before = carry
        noise_i, linear_i, v_i, row_before = step
        state = form.move(state, h_before, row_before)
        term = small_product(form.activate(state), v_i)
        h_i = bernoulli_sample(noise_i, linear_i + term)
        return (state, h_i), (h_i, term)

    lead = noise.shape[1:]
    hidden = jnp.broadcast_to(form.carry(base), (*lead, base.shape[-1]))
    start = (hidden, jnp.zeros(lead, noise.dtype))
    _, (bits, terms) = jax.lax.scan(draw, start, (noise, linear, v, form.carry(_before(m))))
    return bits, terms


def hidden_terms(
    h: Bits[Array, " units *lead_h"],
    base: Float[Array, "*lead_y hidden"],
    v: Float[Array, "units hidden"],
    m: Float[Array, "units hidden"],
) -> Float[Array, " units *lead"]:
    """V_i s(base + M_{<i} h_<i) for each unit i, never more than one unit's hidden layer at a time."""
    terms: Array = _in_best_form(_visit, base, m, h, v)
    return terms


def _visit(form: Form, base: Array, m: Array, h: Array, v: Array) -> Array:
    def visit(state: Float[Array, "*lead hidden"], step: tuple[Array, ...]) -> tuple[Array, Array]:
        h_before, v_i, row_before = step
        state = form.move(state, h_before, row_before)
        return state, small_product(form.activate(state), v_i)

    start = form.carry(plus(base, jnp.zeros((*h.shape[1:], base.shape[-1]), base.dtype)))
    _, terms = jax.lax.scan(visit, start, (_before(h), v, form.carry(_before(m))))
    return terms


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
    d_hidden, d_v, d_m_before = _in_best_form(_visit_back, base, m, h, v, g)
    d_m = jnp.roll(d_m_before, -1, axis=0)  # nothing is before the first: its row is zero
    return None, None, sum_to(d_hidden, base.shape[:-1]), d_v, d_m


known_hidden_terms.defvjp(_forward, _backward)


def _visit_back(
    form: Form, base: Array, m: Array, h: Array, v: Array, g: Array
) -> tuple[Array, Array, Array]:
    lead = g.shape[1:]

    def visit(
        carry: tuple[Array, Array], step: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        state, later = carry  # u after unit i, and what reaches hidden layers of later units
        h_i, h_before, g_i, v_i, row_i = step
        state = form.move(state, h_i, row_i)
        z = form.activate(state)
        later = later + _outer(g_i, v_i) * z * (1 - z)
        d_m_before = sum_of_products(jnp.broadcast_to(h_before, lead), later, len(lead))
        return (state, later), (sum_of_products(g_i, z, len(lead)), d_m_before)

    last = plus(base, sum_of_products(h, m, ((0,), (0,))))
    start = (form.carry(last), jnp.zeros((*lead, base.shape[-1]), base.dtype))
    steps = (h, _before(h), g, v, form.carry(-m))
    (_, d_hidden), (d_v, d_m_before) = jax.lax.scan(visit, start, steps, reverse=True)
    return d_hidden, d_v, d_m_before


def _in_best_form(walk: Callable[..., Any], base: Array, m: Array, *rest: Array) -> Any:
    """Take a walk in products where no order of bits can bring an input out of range, else in sums."""
    up, down = jnp.sum(jnp.maximum(m, 0), axis=0), jnp.sum(jnp.maximum(-m, 0), axis=0)
    reach = jnp.max(jnp.abs(base), axis=tuple(range(base.ndim - 1))) + jnp.maximum(up, down)
    forms = [lambda *a, form=form: walk(form, *a) for form in (PRODUCT, SUM)]
    return jax.lax.cond(jnp.max(reach) < LARGEST_INPUT, *forms, base, m, *rest)


def _before(x: Float[Array, " units *rest"]) -> Float[Array, " units *rest"]:
    """For each unit the row of the one before it, zeros for the first.

    A step that changes its carry first and reads it afterwards can do so in place; the other way
    round, the compiler copies it.
    """
    return jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])


def _outer(h: Array, row: Array) -> Array:
    return h[..., None] * in_rank(row, h.ndim + 1)
