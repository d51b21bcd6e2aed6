"""The checks that types cannot make: values that have the right type and make no sense."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from bihm.config.schema import (
    MOST_LAYERS,
    Config,
    DatasetConfig,
    OptimConfig,
    SideConfig,
    first_parameters,
)
from bihm.errors import ConfigError
from bihm.runtime import import_jax

MOST = 2**31 - 1  # what the machine counts with
MOST_UNITS = 10**6


def check_flat(plain: Any) -> None:
    """Refuse lists in lists of sizes, which OmegaConf lets pass for lists of numbers."""
    shape = plain["dataset"].get("image_shape") if isinstance(plain.get("dataset"), dict) else None
    for name, sizes in (("layers", plain.get("layers")), ("dataset.image_shape", shape)):
        for i, size in enumerate(sizes if isinstance(sizes, list) else []):
            if isinstance(size, list | dict):
                raise ConfigError(f"{name}[{i}] must be a whole number, got {size!r}")


def check_depth(config: Config, depth_given: bool) -> None:
    if config.layers is None:
        return
    length = len(config.layers)
    _require(length > 0, "layers is empty; give at least one size, as layers=[200]")
    if length != config.depth and (depth_given or config.depth != Config.depth):
        raise ConfigError(
            f"depth={config.depth} disagrees with the {length} sizes of layers={config.layers}; "
            "give one of them"
        )
    config.depth = length


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_whole(name: str, value: int | None, least: int = 1, most: int = MOST) -> None:
    _require(value is None or value >= least, f"{name} must be at least {least}, got {value}")
    _require(value is None or value <= most, f"{name} must be at most {most}, got {value}")


def _require_number(name: str, value: float | None, *, zero: bool) -> None:
    fine = value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0)))
    bound = "a finite number >= 0" if zero else "a finite number > 0"
    _require(fine, f"{name} must be {bound}, got {value}")


def _require_one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    choices = tuple(choices)
    _require(value in choices, f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check(config: Config) -> None:
    """Refuse values that have the right type but make no sense.

    Raises:
        ConfigError: one line with the key, the value and what would be right.
    """
    _require_whole("depth", config.depth, most=MOST_LAYERS)
    for name in ("K", "batch_size", "epochs"):
        _require_whole(name, getattr(config, name))
    _require(0 <= config.seed < 2**32, f"seed must lie in 0 .. 2**32 - 1, got {config.seed}")
    _require_one_of("precision", config.precision, ("f32", "tf32", "bf16"))
    _require_number("max_seconds", config.max_seconds, zero=False)
    if config.layers is not None:
        for i, size in enumerate(config.layers):
            _require_whole(f"layers[{i}]", size, most=MOST_UNITS)
    _check_dataset(config.dataset)
    _check_optim(config.optim)
    _check_init(config.init)
    for key, value in vars(config.eval).items():
        _require_whole(f"eval.{key}", value, 2 if "outer" in key else 1)
    _require_whole("stop.patience", config.stop.patience)
    _require_number("checkpoint.every_seconds", config.checkpoint.every_seconds, zero=True)
    _check_model(config)
    _check_sides(config)


def _check_init(init: dict[str, Any]) -> None:
    """Refuse what is no key of `init`, too: it is a mapping, whose keys the schema does not know."""
    known = first_parameters()
    for key in init:
        _require(key in known, f"there is no key 'init.{key}'; init has {', '.join(known)}")
    _require_one_of("init.weights", init["weights"], ("authors", "glorot"))
    _require_one_of("init.visible_bias", init["visible_bias"], ("constant", "data"))
    bias, source = init["bias"], init["from"]
    number = isinstance(bias, int | float) and not isinstance(bias, bool)
    _require(number and math.isfinite(bias), f"init.bias must be a finite number, got {bias!r}")
    init["bias"] = float(bias)
    _require(
        source is None or (isinstance(source, str) and bool(source)),
        f"init.from must be a run directory, a weights file or null, got {source!r}",
    )


def _check_dataset(dataset: DatasetConfig) -> None:
    _require_whole("dataset.n_features", dataset.n_features, most=MOST_UNITS)
    shape, width = dataset.image_shape, dataset.n_features
    if shape is not None:
        fine = len(shape) == 2 and min(shape) >= 1 and (width is None or math.prod(shape) == width)
        _require(
            fine,
            f"dataset.image_shape must be [height,width] with a product of {width or 'n_features'}, "
            f"got {shape}",
        )


def _check_model(config: Config) -> None:
    import_jax()
    from bihm.machine.rules import (
        RULES,  # jax takes a second to import: not for every mistyped word
    )

    name, options = config.model.name, asdict(config.model)
    _require_one_of("model", name, RULES)
    for option, value in options.items():
        able = [rule for rule, spec in RULES.items() if option in spec.options]
        if option != "name" and value is not None and name not in able:
            raise ConfigError(f"model.{option} belongs to model={' or '.join(able)}, not {name}")
    if config.model.q_update is not None:
        _require_one_of("model.q_update", config.model.q_update, ("wake", "sleep", "both"))
    _require_whole("model.sleep_batch_size", config.model.sleep_batch_size)


def _check_sides(config: Config) -> None:
    for name, side, entries in (("p", config.p, config.depth + 1), ("q", config.q, config.depth)):
        _check_side(name, side, set(layer_types(side.layer, name, entries)))


def _check_side(name: str, side: SideConfig, types: set[str]) -> None:
    """Refuse options of layers that make no sense, or that no layer of this side would read."""
    from bihm.machine.layers import LAYERS

    _require_one_of(f"{name}.activation", side.activation, ("tanh", "sigmoid", "relu"))
    _require_one_of(f"{name}.order", side.order, ("natural", "random"))
    many = isinstance(side.hidden, list)
    widths = side.hidden if many else [1 if side.hidden is None else side.hidden]
    _require(
        bool(widths) and all(type(n) is int and 1 <= n <= MOST_UNITS for n in widths),
        f"{name}.hidden must be a whole number >= 1 and <= {MOST_UNITS}, a list of them or null, "
        f"got {side.hidden!r}",
    )
    _require(
        not (many and "nade" in types),
        f"{name}.hidden must be one number where {name}.layer has nade, got {side.hidden}",
    )
    for option in ("hidden", "activation", "order"):
        able = {kind for kind, layer in LAYERS.items() if option in layer.options}
        _require(
            getattr(side, option) == getattr(SideConfig, option) or bool(types & able),
            f"{name}.{option} has no meaning: {name}.layer has no {' or '.join(sorted(able))}",
        )


def layer_types(given: Any, side: str, entries: int) -> list[str]:
    """Expand `p.layer` or `q.layer` into one conditional type per layer, data side first.

    Raises:
        ConfigError: an unknown type, or a list of the wrong length.
    """
    from bihm.machine.layers import LAYERS

    types = [given] * entries if isinstance(given, str) else given
    if not isinstance(types, list):
        raise ConfigError(f"{side}.layer must be a type or a list of types, got {given!r}")
    _require(
        len(types) == entries,
        f"{side}.layer has {len(types)} entries; a machine of this depth needs {entries}",
    )
    for name in types:
        _require_one_of(f"{side}.layer", name, LAYERS)
    return types


def _check_optim(optim: OptimConfig) -> None:
    _require_one_of("optim.name", optim.name, ("adam", "sgd"))
    _require_one_of("optim.schedule", optim.schedule, ("constant", "cosine"))
    for name in ("lr", "clip"):
        _require_number(f"optim.{name}", getattr(optim, name), zero=False)
    for name in ("lr_end", "l1", "l2"):
        _require_number(f"optim.{name}", getattr(optim, name), zero=True)
    average = optim.average
    _require(
        average is None or 0 < average < 1,
        f"optim.average is a decay between 0 and 1, as 0.999; got {average}",
    )
    for i, phase in enumerate(optim.phases):
        where = f"optim.phases[{i}]"
        for name in ("K", "epochs", "patience"):
            _require_whole(f"{where}.{name}", getattr(phase, name))
        _require_number(f"{where}.lr", phase.lr, zero=False)
        _require_number(f"{where}.lr_end", phase.lr_end, zero=True)
