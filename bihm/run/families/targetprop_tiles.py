"""Target propagation over many rows: tiles of one shape, so that one compilation serves them all."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from bihm.kernels.compiled import fast_jit
from bihm.machine.family import Report
from bihm.machine.machine import Params, Structure
from bihm.machine.targetprop import sampling
from bihm.machine.targetprop.machine import Inference, bind, infer_path
from bihm.machine.targetprop.training import Noise, top_moments, with_top
from bihm.run.estimates.parzen import levels
from bihm.types import AnyArray, Array, Float, PRNGKey

FIT_ROWS = 10_000  # training rows, the first ones, that give the moments of the top: to 1 %
AT_ONCE = 1000  # rows, or samples: what bounds the memory


def fit_top(
    structure: Structure,
    params: Params,
    rows: AnyArray,
    grey: bool,
    how: Inference,
    report: Report,
) -> Params:
    """Set the top's mean and variance from the inferred h_L of the first stored training rows."""
    count = min(len(rows), FIT_ROWS)
    height = count // math.ceil(count / AT_ONCE)
    sums, tiles = [], count // height  # whole tiles, without padding
    for i in range(tiles):
        x = jnp.asarray(levels(np.asarray(rows[i * height : (i + 1) * height]), grey))
        sums.append(np.asarray(_moments_tile(structure, params, x, how=how), np.float64))
        report(i + 1, tiles)
    return with_top(structure, params, np.sum(sums, axis=0), height * tiles)


def path(
    structure: Structure, params: Params, rows: np.ndarray, how: Inference, report: Report
) -> Float[np.ndarray, "steps layers rows"]:
    """log p(h_{l-1} | h_l) without constants, of every row, before and after each step of inference."""
    height, parts = min(len(rows), AT_ONCE), []
    for first in range(0, len(rows), height):
        some = rows[first : first + height]
        x = np.zeros((height, rows.shape[1]), np.float32)
        x[: len(some)] = some
        terms = np.asarray(_path_tile(structure, params, jnp.asarray(x), how=how))
        parts.append(terms[:, :, : len(some)].astype(np.float64))
        report(len(parts), -(-len(rows) // height))
    return np.concatenate(parts, axis=2)


def generate(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    samples: int,
    report: Report,
    *,
    variance: float,
    rounds: int,
    how: Inference,
) -> Float[np.ndarray, "samples visible"]:
    """Samples by GENERATE, in [0, 1]; with rounds = 0 the directed ones."""
    height, parts = min(samples, AT_ONCE), []
    for first in range(0, samples, height):
        own = jax.random.fold_in(key, first)
        x = _generate_tile(
            own, structure, params, n=height, variance=variance, rounds=rounds, how=how
        )
        parts.append(np.asarray(x))
        report(len(parts), -(-samples // height))
    return np.concatenate(parts)[:samples]


@partial(fast_jit, static_argnames=("structure", "how"))
def _moments_tile(structure: Structure, params: Params, x: Array, *, how: Inference) -> Array:
    return top_moments(bind(structure, params), x, how)


@partial(fast_jit, static_argnames=("structure", "how"))
def _path_tile(structure: Structure, params: Params, x: Array, *, how: Inference) -> Array:
    return infer_path(bind(structure, params), x, how)[1]


@partial(fast_jit, static_argnames=("structure", "n", "variance", "rounds", "how"))
def _generate_tile(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    *,
    n: int,
    variance: float,
    rounds: int,
    how: Inference,
) -> Array:
    machine = bind(structure, params)
    return sampling.generate(key, machine, n, variance=variance, rounds=rounds, inference=how)


@partial(fast_jit, static_argnames=("structure", "how", "sweeps"))
def complete(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    x: Array,
    observed: Array,
    *,
    how: Inference,
    sweeps: int,
) -> Array:
    machine = bind(structure, params)
    return sampling.complete(key, machine, x, observed, sweeps=sweeps, inference=how)


@partial(fast_jit, static_argnames=("structure", "noise", "sweeps"))
def chain(
    key: PRNGKey, structure: Structure, params: Params, x: Array, *, noise: Noise, sweeps: int
) -> Array:
    return sampling.chain(key, bind(structure, params), x, sweeps=sweeps, noise=noise)
