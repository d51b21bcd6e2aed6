"""A machine small enough to enumerate: what the exact checks are made on."""

import jax
import numpy as np

from bihm.machine.layers import Init
from bihm.machine.likelihood import blocks_at_once, estimate_tile, no_weights
from bihm.machine.machine import HelmholtzMachine, bind, make_machine, split

VISIBLE, SIZES = 5, [4, 3, 2]  # pairwise different: a square array hides an axis bug


def tiny_machine(
    p_layers: list[str] | str = "sbn",
    q_layers: list[str] | str = "sbn",
    seed: int = 0,
    visible: int = VISIBLE,
    sizes: list[int] | None = None,
    scale: float = 0.5,
) -> HelmholtzMachine:
    """A machine small enough to enumerate, with weights large enough to matter.

    Larger ones would make self-normalised weights visibly biased at the K of these tests: O(1 / (K ESS)).
    """
    sizes = SIZES if sizes is None else sizes
    p_layers = [p_layers] * (len(sizes) + 1) if isinstance(p_layers, str) else p_layers
    q_layers = [q_layers] * len(sizes) if isinstance(q_layers, str) else q_layers
    rng = np.random.default_rng(seed)
    machine = make_machine(rng, visible, sizes, p_layers, q_layers, Init())
    structure, params = split(machine)
    params = jax.tree.map(
        lambda w: jax.numpy.asarray(scale * rng.standard_normal(w.shape), jax.numpy.float32), params
    )
    return bind(structure, params)


def whole_tile(key, structure, params, x, K, *, block):
    """The estimates of a tile from all its K samples, stretch by stretch."""
    sums = no_weights(len(x))
    for first in range(0, -(-K // block), blocks_at_once(block)):
        stretch = estimate_tile(
            key, structure, params, x, sums, np.int32(first), np.int32(K), block=block
        )
        sums = stretch.sums
    return stretch.estimates
