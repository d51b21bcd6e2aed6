"""Samples of a machine, and completions of rows of which some pixels are known."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.config import Config
from bihm.errors import ConfigError
from bihm.kernels.compiled import fast_jit
from bihm.machine import sampling
from bihm.machine.family import Report, silent
from bihm.machine.machine import Params, Structure, bind
from bihm.machine.rules import has_p_star
from bihm.run.arguments import check_seed, whole
from bihm.types import Array, PRNGKey

SWEEPS, K, PROPOSALS, INNER = 500, 10, 10_000, 10
MOST = 10**7  # of samples, sweeps, proposals
FRAMES = 100  # of an animation, at most
PART = 50  # sweeps between two looks at the keyboard, and two lines of progress
METHODS = ("ancestral", "resample", "chain")
MEANS = ("generate", "ancestral", "chain")  # of target propagation
MEANT_FOR = {"sweeps": "chain", "K": "chain", "proposals": "resample", "gif": "chain"}


class Options(NamedTuple):
    """How to draw; what is None takes its default where it has a meaning, and is refused elsewhere."""

    n: int = 100
    method: str | None = None  # one of METHODS; ancestral, or the chain where rows are completed
    seed: int = 0
    sweeps: int | None = None
    K: int | None = None
    proposals: int | None = None
    gif: bool | None = None  # keep states on the way, for an animation


class Given(NamedTuple):
    """Rows to complete, uint8 (n, visible), and which pixels stay: bool, (visible,) or (n, visible)."""

    rows: np.ndarray
    observed: np.ndarray


class Drawn(NamedTuple):
    """Samples, uint8 (n, visible), and how the sampler did, as fractions."""

    x: np.ndarray
    facts: dict[str, float]
    frames: Sequence[np.ndarray] = ()  # the states of the chains on the way, if asked for


def settle(options: Options, config: Config, completing: bool) -> Options:
    """Fill in the method, and refuse what has no meaning with it.

    Raises:
        ConfigError: one line on the option, and what would be right.
    """
    method = options.method or ("chain" if completing else "ancestral")
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for name, needed in MEANT_FOR.items():
        if getattr(options, name) is not None and method != needed:
            raise ConfigError(f"{name} has no meaning with method={method}; it belongs to {needed}")
    if completing and method != "chain":
        raise ConfigError(f"mask has no meaning with method={method}; it belongs to chain")
    for name, least in (("n", 1), ("sweeps", 1), ("K", 2), ("proposals", 1)):
        value = getattr(options, name)
        if value is not None:
            whole(name, value, least, MOST)
    check_seed(options.seed)
    if method != "ancestral" and not completing and not has_p_star(config.model.name):
        raise ConfigError(
            f"method={method} samples p*, which only model=bihm has; this run's model is "
            f"{config.model.name}, and method=ancestral samples its p"
        )
    return options._replace(method=method)


def settle_means(options: Options, completing: bool) -> Options:
    """The same for target propagation, whose samples are means: generate, ancestral or chain.

    Raises:
        ConfigError: one line on the option, and what would be right.
    """
    method = options.method or (None if completing else "generate")
    if completing and method is not None:
        raise ConfigError(
            f"mask has no meaning with method={method}: this model has one completion"
        )
    if method not in (None, *MEANS):
        raise ConfigError(
            f"method must be one of {', '.join(MEANS)} for this model, got {method!r}"
        )
    if options.sweeps is not None and method not in (None, "chain"):
        raise ConfigError(
            f"sweeps has no meaning with method={method}; it belongs to chain and mask"
        )
    for name in ("K", "proposals", "gif"):
        if getattr(options, name) is not None:
            raise ConfigError(f"{name} has no meaning with model=targetprop")
    for name in ("n", "sweeps"):
        if getattr(options, name) is not None:
            whole(name, getattr(options, name), 1, MOST)
    check_seed(options.seed)
    return options._replace(method=method)


def draw(
    config: Config,
    structure: Structure,
    params: Params,
    options: Options,
    given: Given | None = None,
    report: Report = silent,
) -> Drawn:
    """Draw as settled `options` say; with `given` rows, complete them by the run's own model, p or p*.

    Raises:
        ConfigError: the chain cannot move on this machine.
    """
    key = jax.random.key(options.seed)
    if options.method == "ancestral":
        return Drawn(_bits(_ancestral(key, structure, params, n=options.n)), {})
    if options.method == "resample":
        proposals = options.proposals or PROPOSALS
        drawn = _resample(key, structure, params, n=options.n, proposals=proposals)
        x = _bits(drawn.x)
        return Drawn(x, {"ess": float(drawn.ess), "distinct": len(np.unique(x, axis=0)) / len(x)})
    sampling.check_bottom(bind(structure, params))
    replicas = 2 if has_p_star(config.model.name) else 1
    return _chain(key, options, structure, params, replicas, given, report)


def _chain(
    key: PRNGKey,
    options: Options,
    structure: Structure,
    params: Params,
    replicas: int,
    given: Given | None,
    report: Report,
) -> Drawn:
    """The last states of n chains that start at samples of p, or at data with what is missing from p."""
    first_key, start_key, sweep_key = jax.random.split(key, 3)
    x = _ancestral(first_key, structure, params, n=options.n)
    observed = jnp.zeros(x.shape, bool)
    if given is not None:
        observed = jnp.asarray(np.broadcast_to(given.observed, x.shape))
        x = jnp.where(observed, jnp.asarray(given.rows, jnp.float32), x)
    chain = _start(start_key, structure, params, x, replicas=replicas)
    sweeps, infos = options.sweeps or SWEEPS, []
    frames = [_bits(chain.x)] if options.gif else []
    most = -(-sweeps // FRAMES) if options.gif else PART
    for done in range(0, sweeps, most):
        part = min(most, sweeps - done)
        chain, info = _sweep(
            sweep_key, structure, params, chain, observed, jnp.asarray(done),
            sweeps=part, K=options.K or K,
        )  # fmt: skip
        infos.append([np.asarray(values) for values in info])
        if options.gif:
            frames.append(_bits(chain.x))
        report(done + part, sweeps)
    acceptance, ess = (float(np.concatenate(v).mean()) for v in zip(*infos, strict=True))
    return Drawn(_bits(chain.x), {"acceptance": acceptance, "ess": ess}, frames)


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


@partial(fast_jit, static_argnames=("structure", "sweeps", "K"))
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
