"""Draw samples from a finished run: restore its best state, sample, and write arrays and a picture."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.config import Config
from bihm.data import archive, entry
from bihm.data import load as load_dataset
from bihm.errors import ConfigError
from bihm.machine import sampling
from bihm.machine.machine import Params, Structure, bind
from bihm.records.pictures import GAP_GREY, sample_grid
from bihm.run.build import has_p_star, split_rows
from bihm.run.load import read_run
from bihm.run.masks import Layout, observed_pixels
from bihm.types import Array, PRNGKey

SWEEPS, K, PROPOSALS, INNER = 500, 10, 10_000, 10
MOST = 10**7  # of samples, sweeps, proposals
PART = 50  # sweeps between two looks at the keyboard, and two lines of progress
MEANT_FOR = {"sweeps": "chain", "K": "chain", "proposals": "resample", "mask": "chain"}
Report = Callable[[int, int], None]  # told how many of how many sweeps are done


class Options(NamedTuple):
    """What to draw; what is None takes its default where it has a meaning, and is refused elsewhere."""

    n: int = 100
    method: str | None = None  # "ancestral", "resample" or "chain"; the chain where there is a mask
    seed: int = 0
    sweeps: int | None = None
    K: int | None = None
    proposals: int | None = None
    mask: str | None = None  # the observed half of an image, or a file of bits, 1 where observed
    split: str | None = None  # whose rows are completed


class Drawing(NamedTuple):
    """Samples, uint8 (n, visible), how the sampler did (fractions), and the files written."""

    x: np.ndarray
    facts: dict[str, float]
    files: list[Path]


class Given(NamedTuple):
    """Rows to complete, uint8 (n, visible), and which of their pixels stay, bool (visible,)."""

    rows: np.ndarray
    observed: np.ndarray


def sample(directory: Path, options: Options, report: Report = lambda done, total: None) -> Drawing:
    """Sample the best state of a run and write `samples-<method>.npz` (and `.png` for images) into it.

    With a mask, complete rows of a split and write `samples-inpaint.npz`: the completed rows `x`, the rows
    themselves `data`, and `observed`.

    Raises:
        ConfigError: no run there, or options that make no sense for it.
        DataError: data, mask or checkpoint missing or damaged.
    """
    config, structure, params, _ = read_run(directory)
    method = _check(options, config)
    layout = _layout(config)
    if method == "chain":
        sampling.factorised_bottom(bind(structure, params))
    given = _given(options, config, layout) if options.mask is not None else None
    x, facts = _draw(method, options, structure, params, given, report)
    arrays = {"x": x}
    if given is not None:
        arrays |= {"data": given.rows, "observed": given.observed.astype(np.uint8)}
    path = directory / f"samples-{method if given is None else 'inpaint'}.npz"
    archive.write_npz(path, arrays)
    files = [path]
    if layout is not None:
        files.append(path.with_suffix(".png"))
        with archive.whole(files[-1]) as stream:
            stream.write(_picture(x, given, layout))
    return Drawing(x, facts, files)


def _check(options: Options, config: Config) -> str:
    """Settle the method, and refuse what has no meaning with it."""
    method = options.method or ("ancestral" if options.mask is None else "chain")
    for name, needed in MEANT_FOR.items():
        if getattr(options, name) is not None and method != needed:
            raise ConfigError(f"{name} has no meaning with method={method}; it belongs to {needed}")
    if options.split is not None and options.mask is None:
        raise ConfigError("split has no meaning without mask: only inpainting needs data")
    for name, least in (("n", 1), ("sweeps", 1), ("K", 2), ("proposals", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
        if value is not None and value > MOST:
            raise ConfigError(f"{name} must be at most {MOST}, got {value}")
    if not 0 <= options.seed < 2**32:
        raise ConfigError(f"seed must lie in 0 .. 2**32 - 1, got {options.seed}")
    rule = config.model.name
    if method != "ancestral" and not has_p_star(config):
        raise ConfigError(
            f"method={method} samples p*, which only model=bihm has; this run's model is {rule}, "
            "and method=ancestral samples its p"
        )
    return method


def _layout(config: Config) -> Layout | None:
    """How the run's rows are images; None where they are not, or nobody said so."""
    dataset = config.dataset
    if dataset.path is None:
        known = entry(dataset.name)
        return None if known.image_shape is None else Layout(known.image_shape, known.column_major)
    shape = dataset.image_shape
    if shape is None or len(shape) != 2 or math.prod(shape) != dataset.n_features:
        return None
    return Layout((shape[0], shape[1]), column_major=False)


def _given(options: Options, config: Config, layout: Layout | None) -> Given:
    """The rows to complete, the first n of a shuffled split, since some splits are sorted by class."""
    assert options.mask is not None
    assert config.dataset.n_features is not None
    observed = observed_pixels(options.mask, config.dataset.n_features, layout)
    split = options.split or "test"
    rows = split_rows(load_dataset(config.dataset.name, config.dataset.path), split)
    if options.n > len(rows):
        raise ConfigError(f"n={options.n} but {split} has {len(rows)} rows")
    chosen = np.random.default_rng(options.seed).permutation(len(rows))[: options.n]
    return Given(rows[chosen], observed)


def _draw(
    method: str,
    options: Options,
    structure: Structure,
    params: Params,
    given: Given | None,
    report: Report,
) -> tuple[np.ndarray, dict[str, float]]:
    key = jax.random.key(options.seed)
    if method == "ancestral":
        return _bits(_ancestral(key, structure, params, n=options.n)), {}
    if method == "resample":
        proposals = options.proposals or PROPOSALS
        drawn = _resample(key, structure, params, n=options.n, proposals=proposals)
        x = _bits(drawn.x)
        return x, {"ess": float(drawn.ess), "distinct": len(np.unique(x, axis=0)) / len(x)}
    return _chain(key, options, structure, params, given, report)


def _chain(
    key: PRNGKey,
    options: Options,
    structure: Structure,
    params: Params,
    given: Given | None,
    report: Report,
) -> tuple[np.ndarray, dict[str, float]]:
    """The last states of n chains that start at samples of p, or at data with what is missing from p."""
    first_key, start_key, sweep_key = jax.random.split(key, 3)
    x = _ancestral(first_key, structure, params, n=options.n)
    observed = jnp.zeros(x.shape, bool)
    if given is not None:
        observed = jnp.broadcast_to(jnp.asarray(given.observed)[None], x.shape)
        x = jnp.where(observed, jnp.asarray(given.rows, jnp.float32), x)
    chain = _start(start_key, structure, params, x)
    sweeps, infos = options.sweeps or SWEEPS, []
    for done in range(0, sweeps, PART):
        part = min(PART, sweeps - done)
        chain, info = _sweep(
            sweep_key, structure, params, chain, observed, jnp.asarray(done),
            sweeps=part, K=options.K or K,
        )  # fmt: skip
        infos.append([np.asarray(values) for values in info])
        report(done + part, sweeps)
    acceptance, ess = (float(np.concatenate(v).mean()) for v in zip(*infos, strict=True))
    return _bits(chain.x), {"acceptance": acceptance, "ess": ess}


def _bits(x: Array) -> np.ndarray:
    return np.asarray(x, np.uint8)


@partial(jax.jit, static_argnames=("structure", "n"))
def _ancestral(key: PRNGKey, structure: Structure, params: Params, *, n: int) -> Array:
    return sampling.ancestral(key, bind(structure, params), n)[0]


@partial(jax.jit, static_argnames=("structure", "n", "proposals"))
def _resample(
    key: PRNGKey, structure: Structure, params: Params, *, n: int, proposals: int
) -> sampling.Resampled:
    return sampling.resample(key, bind(structure, params), n, proposals, INNER)


@partial(jax.jit, static_argnames="structure")
def _start(key: PRNGKey, structure: Structure, params: Params, x: Array) -> sampling.Chain:
    return sampling.start_chain(key, bind(structure, params), x)


@partial(jax.jit, static_argnames=("structure", "sweeps", "K"))
def _sweep(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    chain: sampling.Chain,
    observed: Array,
    first: Array,
    *,
    sweeps: int,
    K: int,
) -> tuple[sampling.Chain, sampling.SweepInfo]:
    machine = bind(structure, params)
    return sampling.run_chain(key, machine, chain, observed, first, sweeps=sweeps, K=K)


def _picture(x: np.ndarray, given: Given | None, layout: Layout) -> bytes:
    """A grid of samples; for inpainting each tile is the row, what is known of it, and its completion."""
    if given is None:
        return sample_grid(x, layout.shape, layout.column_major).png
    known = np.where(given.observed, given.rows, 0.5)
    strips = [layout.images(rows.astype(np.float64)) for rows in (given.rows, known, x)]
    line = np.full((len(x), layout.shape[0], 1), GAP_GREY / 255)
    wide = np.concatenate([strips[0], line, strips[1], line, strips[2]], axis=2)
    return sample_grid(wide.reshape(len(x), -1), wide.shape[1:], column_major=False).png
