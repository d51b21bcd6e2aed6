"""Samples of a machine, and completions of rows of which some pixels are known."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.config import Config
from bihm.kernels.compiled import fast_jit
from bihm.kernels.noise import root_key
from bihm.machine import sampling
from bihm.machine.family import Report, silent
from bihm.machine.layerwise import run_layerwise
from bihm.machine.machine import Params, Structure, bind
from bihm.machine.rules import has_p_star
from bihm.machine.search import EVERY, Best, search
from bihm.run.samples.sampling_options import Options
from bihm.types import Array, PRNGKey

SWEEPS, K, PROPOSALS, INNER = 500, 10, 10_000, 10
SCORED_BY = 100  # samples, each candidate for a best completion
FRAMES = 100  # of an animation after its first, at most
PART = 50  # sweeps between two looks at the keyboard, and two lines of progress


class Incomplete(NamedTuple):
    """Rows to complete, uint8 (n, visible), and which pixels stay: bool, (visible,) or (n, visible)."""

    rows: np.ndarray
    observed: np.ndarray


class Drawn(NamedTuple):
    """Samples, uint8 (n, visible) or float32 means, and how the sampler did, as fractions."""

    x: np.ndarray
    facts: dict[str, float]
    frames: Sequence[np.ndarray] = ()  # the states of the chains on the way, if asked for
    scores: np.ndarray | None = None  # of best completions: their estimated log-probability, nats


def draw(
    config: Config,
    structure: Structure,
    params: Params,
    options: Options,
    given: Incomplete | None = None,
    report: Report = silent,
) -> Drawn:
    """Draw as settled `options` say; with `given` rows, complete them by the run's own model, p or p*.

    Raises:
        ConfigError: the chain cannot move on this machine.
    """
    key = root_key(options.seed)
    if options.method == "ancestral":
        return Drawn(_bits(_ancestral(key, structure, params, n=options.n)), {})
    if options.method == "resample":
        proposals = options.proposals or PROPOSALS
        drawn = _resample(key, structure, params, n=options.n, proposals=proposals)
        x = _bits(drawn.x)
        return Drawn(x, {"ess": float(drawn.ess), "distinct": len(np.unique(x, axis=0)) / len(x)})
    sampling.check_bottom(bind(structure, params))
    replicas = 2 if has_p_star(config.model.name) else 1
    if options.method == "best":
        assert given is not None
        return _best(key, options, structure, params, replicas, given, report)
    return _chain(key, options, structure, params, replicas, given, report)


def _chain(
    key: PRNGKey,
    options: Options,
    structure: Structure,
    params: Params,
    replicas: int,
    given: Incomplete | None,
    report: Report,
) -> Drawn:
    """The last states of n chains that start at samples of p, or at data with what is missing from p."""
    layerwise = options.method == "layerwise"
    replicas = 1 if layerwise else replicas
    chain, observed, sweep_key = _begin(key, options, structure, params, replicas, given)
    sweeps, infos = options.sweeps or SWEEPS, []
    frames = [_bits(chain.x)] if options.gif else []
    most = -(-sweeps // FRAMES) if options.gif else PART
    for done in range(0, sweeps, most):
        part = min(most, sweeps - done)
        chain, info = _sweep(
            sweep_key, structure, params, chain, observed, jnp.asarray(done),
            sweeps=part, K=options.K or K, layerwise=layerwise,
        )  # fmt: skip
        infos.append([np.asarray(values) for values in info])
        if options.gif:
            frames.append(_bits(chain.x))
        report(done + part, sweeps)
    return Drawn(_bits(chain.x), _facts(infos), frames)


def _best(
    key: PRNGKey,
    options: Options,
    structure: Structure,
    params: Params,
    replicas: int,
    given: Incomplete,
    report: Report,
) -> Drawn:
    """The best completions that `search` meets in so many sweeps."""
    chain, observed, search_key = _begin(key, options, structure, params, replicas, given)
    best = Best(chain.x, jnp.full(len(chain.x), -jnp.inf, jnp.float32))
    total, infos = -(-(options.sweeps or SWEEPS) // EVERY), []
    scored_by = jnp.asarray(options.K or SCORED_BY, jnp.int32)
    for done in range(0, total, PART // EVERY):
        stretches = min(PART // EVERY, total - done)
        chain, best, info = _search(
            search_key, structure, params, chain, best, observed, jnp.asarray(done), scored_by,
            stretches=stretches,
        )  # fmt: skip
        infos.append([np.asarray(values).reshape(-1) for values in info])
        report((done + stretches) * EVERY, total * EVERY)
    return Drawn(_bits(best.x), _facts(infos), scores=np.asarray(best.score))


def _begin(
    key: PRNGKey,
    options: Options,
    structure: Structure,
    params: Params,
    replicas: int,
    given: Incomplete | None,
) -> tuple[sampling.Chain, Array, PRNGKey]:
    """Chains at samples of p, with what is observed from the data, where that is, and a key to go on."""
    first_key, start_key, rest_key = jax.random.split(key, 3)
    x = _ancestral(first_key, structure, params, n=options.n)
    observed = jnp.zeros(x.shape, bool)
    if given is not None:
        observed = jnp.asarray(np.broadcast_to(given.observed, x.shape))
        x = jnp.where(observed, jnp.asarray(given.rows, jnp.float32), x)
    return _start(start_key, structure, params, x, replicas=replicas), observed, rest_key


def _facts(infos: list[list[np.ndarray]]) -> dict[str, float]:
    acceptance, ess = (float(np.concatenate(v).mean()) for v in zip(*infos, strict=True))
    return {"acceptance": acceptance, "ess": ess}


def _bits(x: Array) -> np.ndarray:
    return np.asarray(x, np.uint8)


@partial(fast_jit, static_argnames=("structure", "n"))
def _ancestral(key: PRNGKey, structure: Structure, params: Params, *, n: int) -> Array:
    return sampling.ancestral(key, bind(structure, params), n)[0]


@partial(fast_jit, static_argnames=("structure", "n", "proposals"))
def _resample(
    key: PRNGKey, structure: Structure, params: Params, *, n: int, proposals: int
) -> sampling.Resampled:
    return sampling.resample(key, bind(structure, params), n, proposals, INNER)


@partial(fast_jit, static_argnames=("structure", "replicas"))
def _start(
    key: PRNGKey, structure: Structure, params: Params, x: Array, *, replicas: int
) -> sampling.Chain:
    return sampling.start_chain(key, bind(structure, params), x, replicas)


@partial(fast_jit, static_argnames=("structure", "stretches"))
def _search(
    key: PRNGKey,
    structure: Structure,
    params: Params,
    chain: sampling.Chain,
    best: Best,
    observed: Array,
    first: Array,
    K: Array,
    *,
    stretches: int,
) -> tuple[sampling.Chain, Best, sampling.SweepInfo]:
    machine = bind(structure, params)
    return search(key, machine, chain, best, observed, first, K, stretches=stretches)


@partial(fast_jit, static_argnames=("structure", "sweeps", "K", "layerwise"))
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
    layerwise: bool,
) -> tuple[sampling.Chain, sampling.SweepInfo]:
    run = run_layerwise if layerwise else sampling.run_chain
    return run(key, bind(structure, params), chain, observed, first, sweeps=sweeps, K=K)
