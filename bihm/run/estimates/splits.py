"""The numbers of a whole split: estimates of every row, their means and errors, 2 log Z."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TypeVar

import jax
import numpy as np

from bihm.config import Config
from bihm.kernels.numerics import on_device
from bihm.kernels.spread import Tiles, tiles_at_once, work_on_tiles
from bihm.kernels.together import meeting
from bihm.machine import tails
from bihm.machine.family import Keys, Report, silent
from bihm.machine.likelihood import (
    Estimates,
    LogZ,
    blocks_at_once,
    estimate_tile,
    log_z_tile,
    no_weights,
    summarise_log_z,
)
from bihm.machine.machine import Params, Structure
from bihm.machine.rules import has_p_star
from bihm.types import PRNGKey

TILE = 2000  # rows times samples that are worked on at once: what bounds the memory
LARGEST_BLOCK = 100  # samples of one row at once
ZERO = np.float32(0)
STREAMS = 4  # tiles at the same time, at most
Result = TypeVar("Result")


def block_size(K: int) -> int:
    """How many samples of a row to work on at once; runs that share it share a compilation."""
    return min(K, LARGEST_BLOCK)


def own_block(config: Config, K: int) -> int:
    """The block of a run's estimates at any K, so that its own K gives its own numbers again."""
    return block_size(min(K, config.eval.K))


def _streams() -> int:
    """How many tiles to work on at the same time.

    A tile is a few hundred small loops, and between two of them the cores of a processor wait for each
    other; another tile fills the waits. Other devices queue what they are given.
    """
    return min(STREAMS, os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def each_tile(
    estimate: Callable[[range], Sequence[Result]], tiles: int, report: Report, at_once: int = 1
) -> Iterator[Result]:
    """The results of all tiles, in their order; `estimate` takes so many numbers of tiles at once.

    The last of them may be of no tile: what it makes of those is dropped.
    """
    groups = [range(first, first + at_once) for first in range(0, tiles, at_once)]
    pool = ThreadPoolExecutor(_streams())

    def done() -> Iterator[Sequence[Result]]:
        yield estimate(groups[0])  # compiled once, before several threads ask for it
        # Devices that work together do so in one order, which threads would not keep; and runs that are
        # made together meet in the threads of their own.
        in_order = at_once > 1 or meeting() is not None
        yield from (map if in_order else pool.map)(estimate, groups[1:])

    try:
        for group, results in zip(groups, done(), strict=True):
            yield from results[: tiles - group.start]
            report(min(group.stop, tiles), tiles)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # whoever stops does not wait for the rest


def estimate_split(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    rows: np.ndarray,
    K: int,
    *,
    block: int | None = None,
    k_hat: bool = True,
    report: Report = silent,
) -> Estimates:
    """Estimate every row of a split, in its order; the last tile is padded with zeros, then cut.

    Without `k_hat` its fields are None.
    """
    block = block_size(K) if block is None else block
    (estimates,) = estimate_curve(
        key, structure, params, rows, [K], block=block, k_hat=k_hat, report=report
    )
    return estimates


def estimate_curve(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    rows: np.ndarray,
    Ks: Sequence[int],
    *,
    block: int,
    k_hat: bool = True,
    report: Report = silent,
) -> list[Estimates]:
    """The same for each of several ascending K, in one pass: each K has the first of the samples."""
    height = min(len(rows), max(1, TILE // block))

    def estimate(numbers: range) -> list[list[list[np.ndarray]]]:
        counts, x = tiles_of(rows, numbers, height)
        found: list[list[list[np.ndarray]]] = [[] for _ in counts]
        largest = [tails.Largest(count, Ks[-1]) for count in counts]
        for K, stretches, kept in _stretches(key, numbers, structure, params, x, Ks, block):
            for i, count in enumerate(counts):
                stretch, looked = stretches[i], largest[i] if kept else copy(largest[i])
                if k_hat:
                    looked.add(stretch.log_w.T[:count])
                if K is None or count == 0:
                    continue
                found[i].append([field[:count] for field in stretch.estimates[:4]])
                if k_hat:
                    found[i][-1] += [tails.k_hat(looked.tail(K), power) for power in (1.0, 0.5)]
        return found

    parts = each_tile(estimate, -(-len(rows) // height), report, tiles_at_once(params))
    return [
        Estimates(*map(np.concatenate, zip(*tiles, strict=True)))
        for tiles in zip(*parts, strict=True)
    ]


def tiles_of(
    rows: np.ndarray, numbers: range, height: int, padding: np.generic = ZERO
) -> tuple[list[int], np.ndarray]:
    """How many rows each tile has, and the padded tiles: (tiles, height, visible), or a single one."""
    tiles = [rows[i * height : (i + 1) * height] for i in numbers]
    x = np.full((len(tiles), height, rows.shape[1]), padding)
    for i, tile in enumerate(tiles):
        x[i, : len(tile)] = tile
    return [len(tile) for tile in tiles], x if len(tiles) > 1 else x[0]


def _stretches(
    key: PRNGKey,
    numbers: range,
    structure: Structure,
    params: Params,
    x: np.ndarray,
    Ks: Sequence[int],
    block: int,
) -> Iterator[tuple[int | None, Tiles, bool]]:
    """The samples of tiles, one stretch after another: the K it ends at, if any, and whether it is kept.

    A K within a block is the end of a stretch of its own, whose samples are drawn once more after it. Each
    stretch comes when the next one is under way, so that the device works while the host looks at it.
    """
    rows, sums, done = (on_device(x) if x.ndim == 2 else x), no_weights(x.shape[:-1]), 0

    def work(first: int, K: int) -> Tiles:
        numbers_of = (np.int32(first), np.int32(K))
        return work_on_tiles(
            estimate_tile, key, numbers, structure, params, (rows, sums), numbers_of, block=block
        )

    before: tuple[int | None, Tiles, bool] | None = None
    for i, K in enumerate(Ks, start=1):
        whole = -(-K // block) if i == len(Ks) else K // block
        while done < whole:
            first, done = done, min(done + blocks_at_once(block), whole)
            until = min(done * block, K)
            stretch = work(first, until)
            sums = stretch.values.sums
            if before is not None:
                yield before
            before = (K if until == K else None), stretch, True
        if done * block < K:
            stretch = work(done, K)
            if before is not None:
                yield before
            before = K, stretch, False
    assert before is not None
    yield before


def weights_of_some(
    key: PRNGKey, structure: Structure, params: Params, rows: np.ndarray, K: int
) -> np.ndarray:
    """log w of the first rows, as many as make a tile, and of the first samples: (samples, rows), float64.

    By the program that estimates with this K, so that nothing is compiled.
    """
    block = block_size(K)
    height = min(len(rows), max(1, TILE // block))
    x = np.asarray(rows[:height], np.float32)
    _, stretch, _ = next(_stretches(key, range(1), structure, params, x, [K], block))
    log_w = np.asarray(stretch[0].log_w, np.float64)
    return log_w[np.isfinite(log_w).all(axis=1)]  # where no sample was, there is -inf


def log_z_samples(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    outer: int,
    inner: int,
    report: Report = silent,
) -> np.ndarray:
    """log of `outer` independent estimates of Z^2, (outer,), each from `inner` samples of q."""
    height = min(outer, max(1, TILE // inner))

    def estimate(numbers: range) -> list[np.ndarray]:
        made = work_on_tiles(log_z_tile, key, numbers, structure, params, outer=height, inner=inner)
        return [made[i] for i in range(len(numbers))]

    terms = list(each_tile(estimate, -(-outer // height), report, tiles_at_once(params)))
    return np.concatenate(terms)[:outer]


def estimate_log_z(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    outer: int,
    inner: int,
    report: Report = silent,
) -> LogZ:
    """Estimate 2 log Z from `outer` samples of p with `inner` samples of q each."""
    return summarise_log_z(log_z_samples(key, structure, params, outer, inner, report), inner)


def final_log_z(
    config: Config, keys: Keys, structure: Structure, params: Params, report: Report = silent
) -> LogZ | None:
    """2 log Z with the final number of samples; None for a rule without p*."""
    if not has_p_star(config.model.name):
        return None
    outer, inner = config.eval.final_z_outer, config.eval.z_inner
    return estimate_log_z(keys.log_z, structure, params, outer, inner, report)
