"""How to draw samples or complete rows: what a user may ask of each family, and what makes no sense."""

from typing import NamedTuple

from bihm.config import Config
from bihm.errors import ConfigError
from bihm.machine.rules import has_p_star
from bihm.run.arguments import check_seed, whole

MOST = 10**7  # of samples, sweeps, proposals
METHODS = ("ancestral", "resample", "chain", "layerwise", "best")
COMPLETE = ("chain", "layerwise", "best")  # those that complete rows
MEANS = ("generate", "ancestral", "chain")  # of target propagation
MEANT_FOR = {
    "sweeps": COMPLETE,
    "K": COMPLETE,
    "proposals": ("resample",),
    "gif": ("chain", "layerwise"),
}


class Options(NamedTuple):
    """How to draw; what is None takes its default where it has a meaning, and is refused elsewhere."""

    n: int = 100
    method: str | None = None  # one of METHODS; ancestral, or the chain where rows are completed
    seed: int = 0
    sweeps: int | None = None
    K: int | None = None
    proposals: int | None = None
    gif: bool | None = None  # keep states on the way, for an animation


def settle(options: Options, config: Config, completing: bool) -> Options:
    """Fill in the method, and refuse what has no meaning with it.

    Raises:
        ConfigError: one line on the option, and what would be right.
    """
    usual = "chain" if completing else "ancestral"
    method = usual if options.method is None else options.method
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for name, needed in MEANT_FOR.items():
        if getattr(options, name) is not None and method not in needed:
            raise ConfigError(
                f"{name} has no meaning with method={method}; it belongs to {' and '.join(needed)}"
            )
    if completing and method not in COMPLETE:
        raise ConfigError(
            f"mask has no meaning with method={method}; it belongs to {' and '.join(COMPLETE)}"
        )
    if method == "best" and not completing:
        raise ConfigError("method=best needs a mask: it looks for the best completion of a row")
    for name, least in (("n", 1), ("sweeps", 1), ("K", 2), ("proposals", 1)):
        value = getattr(options, name)
        if value is not None:
            whole(name, value, least, MOST)
    check_seed(options.seed)
    of_p_star = method == "layerwise" or (method != "ancestral" and not completing)
    if of_p_star and not has_p_star(config.model.name):
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
