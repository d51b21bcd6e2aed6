"""The machine of target propagation: maps up and down between real-valued layers, and its inference.

Layers h_0 = x, h_1, .., h_L. Each pair has a map up and a map down with weights of their own,

    f_l(a) = phi_l(W_l a + b_l)        g_l(h) = phi_{l-1}(V_l h + c_l),

which are the means of Gaussians of variance 1: q(h_l | h_{l-1}) and p(h_{l-1} | h_l).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool

from bihm.kernels.numerics import on_device
from bihm.kernels.products import affine, affine_of_constant
from bihm.kernels.spread import own_draw
from bihm.machine.layers.conditional import Init, initial_weights
from bihm.machine.layers.order import Untrained
from bihm.machine.machine import Params, Structure, merge
from bihm.types import Array, Float, PRNGKey

UNITS: dict[str, Callable[[Array], Array]] = {
    "softplus": jax.nn.softplus,
    "logistic": jax.nn.sigmoid,
    "linear": lambda a: a,
}
Layers = list[Float[Array, "*lead _units"]]  # h_1 .. h_L, or what is given of each, data side first


class Inference(NamedTuple):
    """How latents are inferred: N steps of size delta, alpha times the pull from the layer above."""

    N: int = 15
    delta: float = 0.1
    alpha: float = 0.001
    langevin: float = 0.0  # standard deviation of the noise added to every unit in each step


class Map(nnx.Module):
    """phi(a W + b), one row for each leading index of a."""

    def __init__(
        self, rng: np.random.Generator, n_inputs: int, n_units: int, unit: str, weights: str
    ):
        if weights == "orthogonal":
            w = on_device(_orthogonal(rng, n_inputs, n_units))
        else:
            w = initial_weights(rng, n_inputs, n_units, Init(weights))
        self.w = nnx.Param(w)
        self.b = nnx.Param(on_device(np.zeros(n_units)))
        self.unit = unit

    def __call__(self, a: Float[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        out: Array = UNITS[self.unit](affine(a, self.w[...], self.b[...]))
        return out

    def of_constant(self, a: Float[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        """The same, with a derivative for W and b alone."""
        out: Array = UNITS[self.unit](affine_of_constant(a, self.w[...], self.b[...]))
        return out


def _orthogonal(rng: np.random.Generator, n_inputs: int, n_units: int) -> np.ndarray:
    """A matrix whose singular values are 1: W V then shrinks no direction more than another."""
    q, r = np.linalg.qr(rng.standard_normal((max(n_inputs, n_units), min(n_inputs, n_units))))
    q = q * np.sign(np.diag(r))  # uniform among all of them
    return np.ascontiguousarray(q if n_inputs >= n_units else q.T, np.float32)


class TargetPropMachine(nnx.Module):
    """Maps f_1 .. f_L up and g_1 .. g_L down, and the moments of the inferred h_L.

    `top_mean` and `top_variance` have no gradient; `with_top` sets them from the training rows.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        n_visible: int,
        sizes: Sequence[int],
        units: Sequence[str],
        weights: str = "orthogonal",
    ):
        """`units` are phi_0 .. phi_L, one more than `sizes`; `weights`: orthogonal, glorot or authors."""
        widths = [n_visible, *sizes]
        pairs = range(1, len(widths))
        up = [Map(rng, widths[i - 1], widths[i], units[i], weights) for i in pairs]
        down = [Map(rng, widths[i], widths[i - 1], units[i - 1], weights) for i in pairs]
        self.f, self.g = nnx.List(up), nnx.List(down)
        self.top_mean = Untrained(on_device(np.full(sizes[-1], 0.5)))
        self.top_variance = Untrained(on_device(np.ones(sizes[-1])))


def paper_units(layers: int) -> list[str]:
    """phi_0 .. phi_L: logistic pixels, softplus, and a logistic top."""
    return ["logistic", *["softplus"] * (layers - 1), "logistic"]


def bind(structure: Structure, params: Params) -> TargetPropMachine:
    """Put a machine together; the first line of every function that is compiled or differentiated."""
    machine = merge(structure, params)
    assert isinstance(machine, TargetPropMachine)
    return machine


def frozen(machine: TargetPropMachine) -> TargetPropMachine:
    """The same machine as a constant to the gradient."""
    structure, params = nnx.split(machine, nnx.Param)
    return bind(structure, jax.lax.stop_gradient(params))


def encode(machine: TargetPropMachine, x: Float[Array, "*lead visible"]) -> Layers:
    """The means of q(h | x) from below: h_l = f_l(h_{l-1})."""
    h: Layers = []
    for f in machine.f:
        h.append(f(h[-1] if h else x))
    return h


class State(NamedTuple):
    """Latents under way, and what each of them rebuilds: below[l - 1] = g_l(h_l)."""

    h: Layers
    below: Layers


def start(machine: TargetPropMachine, x: Float[Array, "*lead visible"]) -> State:
    """The state before the first step of inference: h ~ the means of q(h | x)."""
    h = encode(machine, x)
    return State(h, [g(one) for g, one in zip(machine.g, h, strict=True)])


def step(
    machine: TargetPropMachine,
    x: Float[Array, "*lead visible"],
    state: State,
    how: Inference,
    *,
    bottom: Float[Array, "*lead units_1"] | None = None,
    observed: Bool[Array, "*lead visible"] | None = None,
    key: PRNGKey | None = None,
) -> State:
    """One step of inference (Algorithm 2), from the top down: each layer sees the new one above it,

        h_l += delta (f_l(h_{l-1}) - f_l(g_l(h_l))) + alpha (g_{l+1}(h_{l+1}) - h_l),

    without the last term at the top. `bottom` is f_1(x), if it is known. With `observed`, what x lacks is
    taken from g_1(h_1). Langevin noise needs a `key`.
    """
    h, below = list(state.h), list(state.below)
    if observed is not None:
        bottom = machine.f[0](jnp.where(observed, x, below[0]))
    elif bottom is None:
        bottom = machine.f[0](x)
    top = len(h) - 1
    for i in range(top, -1, -1):
        f = machine.f[i]
        drive = (bottom if i == 0 else f(h[i - 1])) - f(below[i])
        change = how.delta * drive
        if i < top:
            change += how.alpha * (below[i + 1] - h[i])
        if key is not None and how.langevin:
            change += how.langevin * own_draw(
                jax.random.normal, jax.random.fold_in(key, i), h[i].shape
            )
        h[i] = h[i] + change
        below[i] = machine.g[i](h[i])
    return State(h, below)


def infer(
    machine: TargetPropMachine,
    x: Float[Array, "*lead visible"],
    how: Inference,
    *,
    observed: Bool[Array, "*lead visible"] | None = None,
    key: PRNGKey | None = None,
) -> State:
    """INFERENCE of Algorithm 2: N steps from the means of q(h | x)."""
    first = start(machine, x)
    bottom = None if observed is not None else first.h[0]  # f_1(x) does not change

    def body(i: Array, state: State) -> State:
        own = None if key is None else jax.random.fold_in(key, i)
        return step(machine, x, state, how, bottom=bottom, observed=observed, key=own)

    state: State = jax.lax.fori_loop(0, how.N, body, first)
    return state


def log_p_terms(x: Float[Array, "*lead visible"], state: State) -> list[Float[Array, "*lead"]]:
    """-1/2 |h_{l-1} - g_l(h_l)|^2 for l = 1 .. L: log p(h_{l-1} | h_l) without its constant."""
    left = [x, *state.h[:-1]]
    return [-0.5 * jnp.sum((a - b) ** 2, axis=-1) for a, b in zip(left, state.below, strict=True)]


def infer_path(
    machine: TargetPropMachine, x: Float[Array, "*lead visible"], how: Inference
) -> tuple[State, Float[Array, "steps layers *lead"]]:
    """Inference and, for its start and after each of its N steps, `log_p_terms`: N + 1 of them."""
    first = start(machine, x)

    def body(state: State, _: None) -> tuple[State, Array]:
        new = step(machine, x, state, how, bottom=first.h[0])
        return new, jnp.stack(log_p_terms(x, new))

    last, terms = jax.lax.scan(body, first, length=how.N)
    return last, jnp.concatenate([jnp.stack(log_p_terms(x, first))[None], terms])
