"""Weighted samples of the latents of given rows."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.kernels.compiled import fast_jit
from bihm.machine.machine import Params, Structure, bind
from bihm.run.estimates.splits import TILE
from bihm.types import Array, PRNGKey


class Posterior(NamedTuple):
    """Latents h^k ~ q(h | x) with weights: together K weighted samples of the posterior.

    h            h_1 .. h_L, data side first: a list of uint8 (K, rows, units)
    weights      (K, rows), float64, of sum one over K
    log_weights  log w = log p(x, h) - log q(h | x), (K, rows), in nats, before anything is normalised
    """

    h: list[np.ndarray]
    weights: np.ndarray
    log_weights: np.ndarray


def weighted_latents(
    key: PRNGKey, structure: Structure, params: Params, rows: np.ndarray, K: int, power: float
) -> Posterior:
    """Draw K latents of every row, with weights proportional to w^power; rows are uint8 (rows, visible)."""
    height = min(len(rows), max(1, TILE // K))
    parts, log_parts = [], []
    for i in range(0, len(rows), height):
        some = rows[i : i + height]
        tile = np.zeros((height, rows.shape[1]), np.float32)
        tile[: len(some)] = some
        tile_key = jax.random.fold_in(key, i // height)
        h, log_w = _latents(tile_key, structure, params, jnp.asarray(tile), K=K)
        parts.append([np.asarray(layer)[:, : len(some)] for layer in h])
        log_parts.append(np.asarray(log_w, np.float64)[:, : len(some)])
    log_w_all = np.concatenate(log_parts, axis=1)
    weights = np.exp(power * (log_w_all - log_w_all.max(axis=0)))
    layers = [np.concatenate(layer, axis=1) for layer in zip(*parts, strict=True)]
    return Posterior(layers, weights / weights.sum(axis=0), log_w_all)


@partial(fast_jit, static_argnames=("structure", "K"))
def _latents(
    key: PRNGKey, structure: Structure, params: Params, x: Array, *, K: int
) -> tuple[list[Array], Array]:
    machine = bind(structure, params)
    h, log_q = machine.sample_q(key, x, K)
    return [layer.astype(jnp.uint8) for layer in h], machine.log_p(x, h) - log_q
