"""The checks that types cannot make: values that have the right type and make no sense."""

import math
from collections.abc import Iterable
from typing import Any

from bihm.config.families import DEPTHS
from bihm.config.schema import (
    MOST_LAYERS,
    Config,
    DatasetConfig,
    DistributedConfig,
    OptimConfig,
    first_parameters,
)
from bihm.errors import ConfigError

MOST = 2**31 - 1  # what the machine counts with
MOST_UNITS = 10**6
A_GROUP = "a group of keys is due, as {a:1,b:2}"
A_LIST = "a list is due, in brackets"
LARGEST_FLOAT32, SMALLEST_FLOAT32 = 3.4e38, 1.2e-38
BELOW_1 = 1 - 2**-24  # float32's largest number below 1


def check_shapes(plain: Any, known: dict[str, Any]) -> None:
    """Refuse what is no group of keys, or no list, where `known` has one; and lists in lists of sizes.

    OmegaConf lets the last pass for lists of numbers, and does not say where the others are.
    """
    groups = {
        name: plain[name] for name in known if isinstance(known[name], dict) and name in plain
    }
    for name, group in groups.items():
        if group is not None and not isinstance(group, dict):
            raise ConfigError(f"{name}: {A_GROUP}, got {group}")
    lists = {
        "layers": plain.get("layers"),
        "dataset.image_shape": (groups.get("dataset") or {}).get("image_shape"),
        "optim.phases": (groups.get("optim") or {}).get("phases"),
    }
    for name, given in lists.items():
        if isinstance(given, dict):
            raise ConfigError(f"{name}: {A_LIST}, got {given}")
    del lists["optim.phases"]  # the others are of sizes
    for name, sizes in lists.items():
        for i, size in enumerate(sizes if isinstance(sizes, list) else []):
            if isinstance(size, list | dict):
                raise ConfigError(f"{name}[{i}] must be a whole number, got {size!r}")


def check_depth(config: Config, depth_given: bool) -> None:
    """Make `depth` the number of `layers`, unless the user asked for another number."""
    if config.layers is None:
        return
    length = len(config.layers)
    require(length > 0, "layers is empty; give at least one size, as layers=[200]")
    defaults = (Config.depth, DEPTHS.get(config.model.name))
    if length != config.depth and (depth_given or config.depth not in defaults):
        raise ConfigError(
            f"depth={config.depth} disagrees with the {length} sizes of layers={config.layers}; "
            "give one of them"
        )
    config.depth = length


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def require_whole(name: str, value: int | None, least: int = 1, most: int = MOST) -> None:
    require(value is None or value >= least, f"{name} must be at least {least}, got {value}")
    require(value is None or value <= most, f"{name} must be at most {most}, got {value}")


def require_number(name: str, value: float | None, *, zero: bool) -> None:
    fine = value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0)))
    bound = "a finite number >= 0" if zero else "a finite number > 0"
    require(fine, f"{name} must be {bound}, got {value}")
    small = value is None or value <= LARGEST_FLOAT32
    require(small, f"{name} must be at most {LARGEST_FLOAT32:.1e}, float32's largest, got {value}")
    large = not value or value >= SMALLEST_FLOAT32
    require(
        large, f"{name} must be at least {SMALLEST_FLOAT32:.1e}, float32's smallest, got {value}"
    )


def require_one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    choices = tuple(choices)
    require(value in choices, f"{name} must be one of {', '.join(choices)}, got {value!r}")


def read_devices(value: Any) -> int | str:
    """A number of devices, or "all".

    Raises:
        ConfigError: it is neither.
    """
    text = str(value).removesuffix(".0")  # of 1e1, which is a float to YAML
    whole = text.isdecimal() and text.isascii() and 1 <= int(text) <= MOST
    if text != "all" and (not whole or isinstance(value, bool)):
        raise ConfigError(f"devices must be all, or a number of devices from 1 on, got {value!r}")
    return int(text) if whole else text


def check(config: Config) -> None:
    """Refuse values of the right type that make no sense; convert `devices` and `init.bias`.

    Raises:
        ConfigError: one line with the key, the value and what would be right.
    """
    require_whole("depth", config.depth, most=MOST_LAYERS)
    for name in ("K", "batch_size", "epochs"):
        require_whole(name, getattr(config, name))
    require(0 <= config.seed < 2**32, f"seed must lie in 0 .. 2**32 - 1, got {config.seed}")
    require_one_of("precision", config.precision, ("f32", "tf32", "bf16"))
    config.devices = read_devices(config.devices)
    _check_distributed(config.distributed)
    require_number("max_seconds", config.max_seconds, zero=False)
    if config.layers is not None:
        for i, size in enumerate(config.layers):
            require_whole(f"layers[{i}]", size, most=MOST_UNITS)
    _check_dataset(config.dataset)
    _check_optim(config.optim)
    _check_init(config.init)
    for key, value in vars(config.eval).items():
        require_whole(f"eval.{key}", value, 2 if "outer" in key else 1)
    require_whole("stop.patience", config.stop.patience)
    require_number("checkpoint.every_seconds", config.checkpoint.every_seconds, zero=True)


def _check_distributed(given: DistributedConfig) -> None:
    require_whole("distributed.processes", given.processes)
    require_whole("distributed.process", given.process, least=0)
    host, _, port = (given.coordinator or "host:1").rpartition(":")
    require(
        bool(host) and port.isdecimal() and 0 < int(port) < 2**16,
        f"distributed.coordinator must be HOST:PORT, as node1:12345, got {given.coordinator!r}",
    )


def _check_init(init: dict[str, Any]) -> None:
    """Refuse what is no key of `init`, too: it is a mapping, whose keys the schema does not know."""
    known = first_parameters()
    for key in init:
        require(key in known, f"there is no key 'init.{key}'; init has {', '.join(known)}")
    require_one_of("init.weights", init["weights"], ("authors", "glorot"))
    require_one_of("init.visible_bias", init["visible_bias"], ("constant", "data"))
    bias, source = init["bias"], init["from"]
    number = isinstance(bias, int | float) and not isinstance(bias, bool)
    require(number and math.isfinite(bias), f"init.bias must be a finite number, got {bias!r}")
    require(
        abs(bias) <= LARGEST_FLOAT32,
        f"init.bias must lie within +-{LARGEST_FLOAT32:.1e}, float32's range, got {bias}",
    )
    init["bias"] = float(bias)
    require(
        source is None or (isinstance(source, str) and bool(source)),
        f"init.from must be a run directory, a weights file or null, got {source!r}",
    )


def _check_dataset(dataset: DatasetConfig) -> None:
    require(dataset.path != "", "dataset.path= is empty; give a file")
    require_whole("dataset.n_features", dataset.n_features, most=MOST_UNITS)
    shape, width = dataset.image_shape, dataset.n_features
    if shape is not None:
        fine = len(shape) == 2 and min(shape) >= 1 and (width is None or math.prod(shape) == width)
        require(
            fine,
            f"dataset.image_shape must be [height,width] with a product of {width or 'n_features'}, "
            f"got {shape}",
        )


def _check_optim(optim: OptimConfig) -> None:
    require_one_of("optim.name", optim.name, ("adam", "sgd"))
    require_one_of("optim.schedule", optim.schedule, ("constant", "cosine"))
    for name in ("lr", "clip"):
        require_number(f"optim.{name}", getattr(optim, name), zero=False)
    for name in ("lr_end", "l1", "l2"):
        require_number(f"optim.{name}", getattr(optim, name), zero=True)
    require(
        0 <= optim.soften < 1,
        f"optim.soften must be at least 0 and less than 1, got {optim.soften}",
    )
    average = optim.average
    require(
        average is None or 0 < average <= BELOW_1,
        f"optim.average is a decay between 0 and 1, in float32, as 0.999; got {average}",
    )
    for i, phase in enumerate(optim.phases):
        where = f"optim.phases[{i}]"
        for name in ("K", "epochs", "patience"):
            require_whole(f"{where}.{name}", getattr(phase, name))
        require_number(f"{where}.lr", phase.lr, zero=False)
        require_number(f"{where}.lr_end", phase.lr_end, zero=True)
