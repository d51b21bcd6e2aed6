"""From what Hydra composed, or a run saved, to a checked `Config`."""

from collections.abc import Collection
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bihm.config.checks import check, check_depth, check_shapes
from bihm.config.explain import explain
from bihm.config.families import check_strangers, settled
from bihm.config.schema import MACHINE_KEYS, Config, flatten
from bihm.errors import ConfigError


def parse(raw: DictConfig, given: Collection[str] = ()) -> Config:
    """Turn a composed configuration into a checked `Config`.

    `given` are the keys set on the command line: a `depth` among them must agree with `layers`.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value that makes no sense.
    """
    try:
        # Merging once more into the schema refuses what `+key=value` slipped past Hydra's composition.
        plain = OmegaConf.to_container(raw, resolve=True)
        check_shapes(plain, _known())
        _read_hidden(plain)
        merged = OmegaConf.merge(OmegaConf.structured(Config), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(config, Config)
    check_depth(config, "depth" in set(given))
    check(config)
    check_strangers(config, given)
    return config


def _read_hidden(plain: Any) -> None:
    """Take 1e2 for 100, as the schema does where it knows that a number is whole."""

    def whole(value: Any) -> Any:
        return int(value) if type(value) is float and value.is_integer() else value

    for side in (plain.get(name) for name in ("p", "q")):
        if isinstance(side, dict) and "hidden" in side:
            given = side["hidden"]
            side["hidden"] = [whole(n) for n in given] if isinstance(given, list) else whole(given)


def load(path: Path) -> Config:
    """Read the `config.yaml` of a run.

    Raises:
        ConfigError: the file is damaged, or not a configuration of this version.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # Aliases of aliases grow without bounds; no configuration that we wrote has any.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ConfigError(f"{path}: has aliases (*), which a run's configuration never has")
        # Nothing is looked up, in the environment or elsewhere, for a stranger's file.
        if "${" in text:
            raise ConfigError(
                f"{path}: has interpolations (${{), which a run's configuration never has"
            )
        raw = OmegaConf.create(text)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        line = f"line {where.line + 1}: " if where else ""
        raise ConfigError(f"{path}: {line}{error.problem or error.context}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError, RecursionError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from error
    try:
        return _parse_saved(raw)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse_saved(raw: Any) -> Config:
    if not isinstance(raw, DictConfig):
        raise ConfigError("not a configuration")
    plain = _without_unset(OmegaConf.to_container(raw), _known())
    plain.setdefault("layers", None)  # its default has a meaning on a command line only
    config = parse(OmegaConf.create(plain))
    if config.layers is None or config.dataset.n_features is None:
        raise ConfigError("is no run's configuration: it lacks layers or n_features")
    return config


@cache
def _known() -> Any:
    """The keys of this version, nested as they are."""
    return OmegaConf.to_container(OmegaConf.structured(Config), resolve=False)


def _without_unset(plain: Any, known: Any) -> Any:
    """Leave out the keys that this version does not know and that are null: another one's, not in use."""
    if not isinstance(plain, dict) or not isinstance(known, dict):
        return plain
    return {
        key: _without_unset(value, known.get(key))
        for key, value in plain.items()
        if key in known or value is not None
    }


def from_dict(plain: Any) -> Config:
    """Read what `to_dict` wrote, through the same schema and checks as any configuration.

    Raises:
        ConfigError: it is none, or not one of this version.
    """
    if "${" in str(
        plain
    ):  # nothing is looked up, in the environment or elsewhere, for a stranger's file
        raise ConfigError("a saved configuration holds no interpolations")
    return _parse_saved(OmegaConf.create(plain) if isinstance(plain, dict) else None)


def differences(saved: Config, wanted: Config) -> list[str]:
    """Name what makes two configurations those of two runs, and not of one that is given another limit.

    Limits are `max_seconds`, and epochs and patience, also those of phases. On how many devices it trains,
    and how often it saves, makes no other run of it.
    """
    free = (*MACHINE_KEYS, "max_seconds", "epochs", "stop.patience")
    before, after = (
        flatten(config) | settled(config) | {"optim.phases": _unlimited(config)}
        for config in (saved, wanted)
    )
    return [
        f"{key} was {before.get(key)}, now {after.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and key not in free
    ]


def _unlimited(config: Config) -> list[dict[str, Any]]:
    limits = ("epochs", "patience")
    return [
        {key: value for key, value in asdict(phase).items() if key not in limits}
        for phase in config.optim.phases
    ]
