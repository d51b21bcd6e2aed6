"""The numbers of a whole split: estimates of every row, their means and errors, 2 log Z."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bihm.likelihood import (
    Estimates,
    LogZ,
    estimate_tile,
    log_z_tile,
    summarise_log_z,
)
from bihm.model import Params, Structure
from bihm.types import PRNGKey

TILE = 2000  # rows times samples that are worked on at once: what bounds the memory
LARGEST_BLOCK = 100  # samples of one row at once
Report = Callable[[int, int], None]  # told how many of how many tiles are done


def _silent(done: int, total: int) -> None:
    del done, total


def block_size(K: int) -> int:
    """How many samples of a row to work on at once; runs that share it share a compilation."""
    return min(K, LARGEST_BLOCK)


def estimate_split(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    rows: np.ndarray,
    K: int,
    *,
    block: int | None = None,
    report: Report = _silent,
) -> Estimates:
    """Estimate every row of a split, in its order; the last tile is padded with zeros, then cut."""
    block = block_size(K) if block is None else block
    height = min(len(rows), max(1, TILE // block))
    tiles = -(-len(rows) // height)
    parts = []
    for i in range(tiles):
        tile = rows[i * height : (i + 1) * height]
        x = np.zeros((height, rows.shape[1]), np.float32)
        x[: len(tile)] = tile
        tile_key = jax.random.fold_in(key, i)
        estimates = estimate_tile(
            tile_key, structure, params, jnp.asarray(x), jnp.asarray(K, jnp.int32), block=block
        )
        parts.append([np.asarray(values)[: len(tile)] for values in estimates])
        report(i + 1, tiles)
    return Estimates(*map(np.concatenate, zip(*parts, strict=True)))


def estimate_log_z(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    outer: int,
    inner: int,
    report: Report = _silent,
) -> LogZ:
    """Estimate 2 log Z from `outer` samples of p with `inner` samples of q each."""
    height = min(outer, max(1, TILE // inner))
    tiles = -(-outer // height)
    terms = []
    for i in range(tiles):
        tile_key = jax.random.fold_in(key, i)
        terms.append(log_z_tile(tile_key, structure, params, outer=height, inner=inner))
        report(i + 1, tiles)
    return summarise_log_z(np.concatenate([np.asarray(t) for t in terms])[:outer], inner)
