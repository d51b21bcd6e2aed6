"""The truth about tiny machines: sums over all states, in float64, from the models' equations alone.

Nothing here calls the package's mathematics; layers are read for their numbers only.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bihm.machine.machine import HelmholtzMachine, bind, split


def states(n: int) -> np.ndarray:
    """All 2^n bit vectors, shape (2^n, n)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n))).reshape(2**n, n)


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def numbers(layer: Any) -> dict[str, np.ndarray]:
    """The parameters of a layer as float64 arrays."""
    names = ("w", "b", "a", "order", "v", "m")
    found = {name: getattr(layer, name, None) for name in names}
    return {name: np.asarray(p[...], np.float64) for name, p in found.items() if p is not None}


def earlier(layer: Any) -> np.ndarray:
    """Entry (i, j) is 1 where unit j is drawn before unit i."""
    units = range(layer.n_units)
    order = [int(i) for i in numbers(layer).get("order", units)]
    return np.array([[order.index(j) < order.index(i) for j in units] for i in units], float)


def bit_logits(layer: Any, h: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The log-odds of p(h_i = 1 | y, h_<i) for each unit; h (.., units), y (.., inputs)."""
    n = numbers(layer)
    kind = type(layer).__name__
    if kind == "Dsbn":
        f = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda a: np.maximum(a, 0)}
        for u, c in zip(layer.u, layer.c, strict=True):
            y = f[layer.activation](np.asarray(c, np.float64) + y @ np.asarray(u, np.float64))
    linear = n["b"] + (y @ n["w"] if y.shape[-1] else 0) + 0 * h
    if kind in ("Sbn", "Dsbn"):
        return linear
    if kind == "Darn":
        return linear + np.einsum("ij,...j->...i", n["a"] * earlier(layer), h)
    if kind == "Nade":
        # s(c + C y + sum_j [j before i] M_j h_j), for each unit i a hidden layer of its own
        hidden = np.asarray(layer.c[...], np.float64)
        if y.shape[-1]:
            hidden = hidden + (y @ np.asarray(layer.u[...], np.float64))[..., None, :]
        hidden = sigmoid(hidden + np.einsum("ij,...j,jk->...ik", earlier(layer), h, n["m"]))
        return linear + np.einsum("ik,...ik->...i", n["v"], hidden)
    raise AssertionError(f"the oracle does not know {kind}")


def log_prob(layer: Any, h: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(h | y), right also where a probability rounds to 0 or 1."""
    a = bit_logits(layer, h, y)
    return (h * a - np.logaddexp(0, a)).sum(axis=-1)


def conditional_table(layer: Any) -> np.ndarray:
    """p(h | y) for all y and h, shape (2^inputs, 2^units)."""
    y, h = states(layer.n_inputs)[:, None, :], states(layer.n_units)[None, :, :]
    y = np.broadcast_to(y, (y.shape[0], h.shape[1], y.shape[2]))
    h = np.broadcast_to(h, (y.shape[0], h.shape[1], h.shape[2]))
    p = sigmoid(bit_logits(layer, h, y))
    return np.prod(np.where(h == 1, p, 1 - p), axis=-1)


class Exact(NamedTuple):
    """The joint tables of a machine, over all x and all joint h = (h_1 .. h_L)."""

    p: np.ndarray  # p(x, h), shape (2^visible, 2^(sum of sizes))
    q: np.ndarray  # q(h | x), same shape

    @property
    def log_p(self) -> np.ndarray:
        """log p(x) = log sum_h p(x, h)."""
        return np.log(self.p.sum(axis=1))

    @property
    def log_p_tilde_star(self) -> np.ndarray:
        """log p~*(x) = 2 log sum_h sqrt(p(x, h) q(h | x))."""
        return 2 * np.log(np.sqrt(self.p * self.q).sum(axis=1))

    @property
    def two_log_z(self) -> float:
        """log Z^2 = log sum_x p~*(x)."""
        return float(np.log(np.exp(self.log_p_tilde_star).sum()))


def _chain(tables: list[np.ndarray]) -> np.ndarray:
    """Multiply p(l+1 | l) tables of a chain into one joint over all layers but the first."""
    joint = tables[0]
    for table in tables[1:]:
        width = table.shape[0]
        joint = (joint.reshape(-1, width)[:, :, None] * table[None]).reshape(joint.shape[0], -1)
    return joint


def exact(machine: HelmholtzMachine) -> Exact:
    """Sum up a machine; the columns run over h_1 slowest, h_L fastest."""
    q = _chain([conditional_table(layer) for layer in machine.q])
    prior = conditional_table(machine.p[-1])[0]
    # p(h_1 | h_2) etc. as tables from above; walk down from the prior to (h_1 .. h_L).
    joint = prior
    for layer in reversed(machine.p[1:-1]):
        table = conditional_table(layer)  # (above, below)
        joint = np.swapaxes(table, 0, 1)[:, :, None] * joint.reshape(1, table.shape[0], -1)
        joint = joint.reshape(-1)
    bottom = conditional_table(machine.p[0])  # (h_1, x)
    p = bottom.T[:, :, None] * joint.reshape(1, bottom.shape[0], -1)
    return Exact(p.reshape(bottom.shape[1], -1), q)


def latents(machine: HelmholtzMachine) -> np.ndarray:
    """All joint latent states in the order of `Exact`'s columns, shape (2^bits, bits)."""
    return states(sum(machine.sizes))


def gradient(
    machine: HelmholtzMachine, value: Callable[[HelmholtzMachine], np.ndarray], step: float = 1e-3
) -> list[np.ndarray]:
    """Central differences of `value(machine)` in every parameter, in the order of `jax.tree.leaves`.

    The numbers stay float32 inside the machine, so the step is a power of two that float32 holds exactly
    next to them; the differences themselves are float64.
    """
    structure, params = split(machine)
    leaves, tree = jax.tree.flatten(params)
    grads = []
    for i, leaf in enumerate(leaves):
        grad = np.zeros((leaf.size, *np.shape(value(machine))))
        for j in range(leaf.size):
            ends, actual = [], []
            for sign in (1, -1):
                moved = np.asarray(leaf, np.float32).copy().ravel()
                moved[j] += np.float32(sign * step)
                actual.append(float(moved[j]))
                changed = [
                    *leaves[:i],
                    jax.numpy.asarray(moved.reshape(leaf.shape)),
                    *leaves[i + 1 :],
                ]
                ends.append(value(bind(structure, jax.tree.unflatten(tree, changed))))
            grad[j] = (ends[0] - ends[1]) / (actual[0] - actual[1])
        grads.append(grad.reshape(*leaf.shape, *grad.shape[1:]))
    return grads
