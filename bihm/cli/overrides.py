"""Words that Hydra would take, and make no sense: each is refused in one line before anything is made."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from omegaconf import DictConfig, OmegaConf

from bihm.config import GROUPS
from bihm.errors import ConfigError

MOST_JOBS = 10_000


def check_words(words: list[Override]) -> None:
    """Refuse words without a key, keys taken away, lists of groups and endless ranges.

    Raises:
        ConfigError: one line with the word and what would be right.
    """
    for word in words:
        if not word.key_or_group:
            raise ConfigError(f"{word.input_line!r} has no key; a word is key=value")
        if word.type == OverrideType.DEL:
            raise ConfigError(
                f"{word.input_line}: a key cannot be removed; give it another value, "
                f"as {word.key_or_group}=..."
            )
        _check_choice(word)
        _check_range(word)


def _check_choice(word: Override) -> None:
    """A group takes one name; Hydra would merge the files of a list, and fall over anything else."""
    if word.is_sweep_override() or word.key_or_group not in GROUPS:
        return
    kinds = (str, dict, list) if word.key_or_group == "experiment" else (str, dict)
    if not isinstance(word.value(), kinds):
        raise ConfigError(f"{word.input_line}: give the name of one; -m tries several in turn")


def _check_range(word: Override) -> None:
    """A sweep is listed whole before it starts."""
    sweep = word.value()
    if isinstance(sweep, RangeSweep):
        step = abs(sweep.step)
        if step == 0 or abs((sweep.stop or 0) - (sweep.start or 0)) > MOST_JOBS * step:
            raise ConfigError(f"{word.input_line}: a range may have {MOST_JOBS} values, no more")


def check_composed(composed: DictConfig) -> None:
    """Refuse what Hydra would fall over with half a run directory made, or made elsewhere.

    Raises:
        ConfigError: one line with the key and what would be right.
    """
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    own = {
        key: value for key, value in raw.items() if key != "hydra"
    }  # the key that a user knows first
    for path, value in (*values_within(own), *values_within(raw)):
        if "\0" in str(value):  # the system's own words for it differ from Python to Python
            raise ConfigError(f"{path} holds a null byte, which no path or name may")
    hydra = raw["hydra"]
    hydra.pop("env", None)  # a group of Hydra's that its own schema forgot
    _check_keys("hydra", hydra, HydraConf)  # what + slipped past Hydra's composition
    for group in ("model", "dataset"):
        name = raw[group].get("name") if isinstance(raw.get(group), dict) else None
        if "/" in str(name):
            raise ConfigError(f"{group}.name={name} must be one word: it names a folder")
    for name in ("run", "sweep"):
        if not hydra[name]["dir"]:
            raise ConfigError(f"hydra.{name}.dir is empty; give a folder")
    inner = hydra["output_subdir"]
    if inner is not None and Path(inner).name != inner:
        raise ConfigError(
            f"hydra.output_subdir={inner} must be one name: it lies in the run directory"
        )
    verbose = hydra["verbose"]
    listed = verbose if isinstance(verbose, list) else [verbose]
    if not (isinstance(verbose, bool) or all(isinstance(name, str) for name in listed)):
        raise ConfigError(f"hydra.verbose must be true, false or names of loggers, got {verbose}")


def _check_keys(where: str, node: dict[Any, Any], schema: type) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(schema)}
    for key, value in node.items():
        if key not in fields:
            raise ConfigError(
                f"there is no key '{where}.{key}'; `bihm-train --cfg hydra` shows all keys"
            )
        kind = fields[key]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, dict):
            _check_keys(f"{where}.{key}", value, kind)


def values_within(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The full path and the value of every leaf; an empty list or mapping is one."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs:
        below = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list) and value:
            yield from values_within(value, below)
        else:
            yield below, value
