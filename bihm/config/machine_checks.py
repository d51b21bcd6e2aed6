"""The checks that know which rules and layers there are; with them comes jax, which takes a second."""

from dataclasses import asdict
from typing import Any

from bihm.config.checks import (
    MOST_UNITS,
    require,
    require_number,
    require_one_of,
    require_whole,
)
from bihm.config.families import INITIAL_WEIGHTS, TARGETPROP, TARGETPROP_OPTIONS
from bihm.config.schema import SIDE_OPTIONS, Config, SideConfig
from bihm.errors import ConfigError
from bihm.machine.layers import LAYERS
from bihm.machine.layers.dsbn import ACTIVATIONS
from bihm.machine.rules import RULES

MOST_STEPS = 10**4  # of inference, rounds and spikes


def check_machine(config: Config) -> None:
    """Refuse a rule, layers or options of theirs that make no sense.

    Raises:
        ConfigError: one line with the key, the value and what would be right.
    """
    _check_model(config)
    for name, side, entries in (("p", config.p, config.depth + 1), ("q", config.q, config.depth)):
        _check_side(name, side, set(layer_types(side.layer, name, entries)))


def _check_model(config: Config) -> None:
    name, options = config.model.name, asdict(config.model)
    able_of = {rule: spec.options for rule, spec in RULES.items()}
    able_of[TARGETPROP] = set(TARGETPROP_OPTIONS)
    require_one_of("model", name, able_of)
    for option, value in options.items():
        able = [model for model, own in able_of.items() if option in own]
        if option != "name" and value is not None and name not in able:
            raise ConfigError(f"model.{option} belongs to model={' or '.join(able)}, not {name}")
    if config.model.q_update is not None:
        require_one_of("model.q_update", config.model.q_update, ("wake", "sleep", "both"))
    require_whole("model.sleep_batch_size", config.model.sleep_batch_size)
    require_whole("model.warm_up", config.model.warm_up)
    if config.model.weights is not None:
        require_one_of("model.weights", config.model.weights, INITIAL_WEIGHTS)
    for option in (own for own in TARGETPROP_OPTIONS if own != "weights"):
        value = options[option]
        if isinstance(value, int):
            require_whole(f"model.{option}", value, least=0, most=MOST_STEPS)
        else:
            require_number(f"model.{option}", value, zero=True)


def _check_side(name: str, side: SideConfig, types: set[str]) -> None:
    """Refuse options of layers that make no sense, or that no layer of this side would read."""
    require_one_of(f"{name}.activation", side.activation, ACTIVATIONS)
    require_one_of(f"{name}.order", side.order, ("natural", "random"))
    many = isinstance(side.hidden, list)
    widths = side.hidden if many else [1 if side.hidden is None else side.hidden]
    require(
        bool(widths) and all(type(n) is int and 1 <= n <= MOST_UNITS for n in widths),
        f"{name}.hidden must be a whole number >= 1 and <= {MOST_UNITS}, a list of them or null, "
        f"got {side.hidden!r}",
    )
    require(
        not (many and "nade" in types),
        f"{name}.hidden must be one number where {name}.layer has nade, got {side.hidden}",
    )
    for option in SIDE_OPTIONS:
        able = {kind for kind, layer in LAYERS.items() if option in layer.options}
        require(
            getattr(side, option) == getattr(SideConfig, option) or bool(types & able),
            f"{name}.{option} has no meaning: {name}.layer has no {' or '.join(sorted(able))}",
        )


def layer_types(given: Any, side: str, entries: int) -> list[str]:
    """Expand `p.layer` or `q.layer` into one conditional type per layer, data side first.

    Raises:
        ConfigError: an unknown type, or a list of the wrong length.
    """
    types = [given] * entries if isinstance(given, str) else given
    if not isinstance(types, list):
        raise ConfigError(f"{side}.layer must be a type or a list of types, got {given!r}")
    require(
        len(types) == entries,
        f"{side}.layer has {len(types)} entries; a machine of this depth needs {entries}",
    )
    for name in types:
        require_one_of(f"{side}.layer", name, LAYERS)
    return types
