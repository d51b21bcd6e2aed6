"""Keys that are set and have no effect: each is told in a line, so that nobody waits for one."""

from bihm.config.schema import Config, EvalConfig, OptimConfig
from bihm.machine.rules import has_p_star


def unread(config: Config) -> list[str]:
    """A line for each value that differs from its default and that this run does not read.

    They are no mistakes: a sweep over models or schedules gives all of its jobs the same keys.
    """
    return [*_of_schedule(config), *_of_phases(config), *_of_z(config), *_of_warm_up(config)]


def _of_schedule(config: Config) -> list[str]:
    optim = config.optim
    ends = {"optim.lr_end": None if optim.lr_end == OptimConfig().lr_end else optim.lr_end}
    ends |= {f"optim.phases[{i}].lr_end": phase.lr_end for i, phase in enumerate(optim.phases)}
    why = "has no effect with optim.schedule=constant; a rate that falls is optim.schedule=cosine"
    constant = optim.schedule == "constant"
    return [f"{key}={end} {why}" for key, end in ends.items() if constant and end is not None]


def _of_phases(config: Config) -> list[str]:
    phases, usual = config.optim.phases, Config()
    given = {
        "K": (config.K, usual.K),
        "epochs": (config.epochs, usual.epochs),
        "lr": (config.optim.lr, usual.optim.lr),
    }
    return [
        f"{'optim.lr' if key == 'lr' else key}={value} has no effect: each of optim.phases has its own"
        for key, (value, default) in given.items()
        if phases and value != default and all(getattr(one, key) is not None for one in phases)
    ]


def _of_z(config: Config) -> list[str]:
    name, usual = config.model.name, EvalConfig()
    if has_p_star(name):
        return []
    keys = ("z_outer", "final_z_outer", "z_inner")
    return [
        f"eval.{key}={getattr(config.eval, key)} has no effect: 2 log Z belongs to model=bihm"
        for key in keys
        if getattr(config.eval, key) != getattr(usual, key)
    ]


def _of_warm_up(config: Config) -> list[str]:
    warm_up = config.model.warm_up
    own = [config.epochs if one.epochs is None else one.epochs for one in config.optim.phases]
    epochs = sum(own) if own else config.epochs
    if warm_up is None or warm_up < epochs:
        return []
    return [f"model.warm_up={warm_up} does not end within the {epochs} epochs of training"]
