"""What Hydra may compose: nothing that a configuration names is imported or called.

Hydra calls what `_target_` names in callbacks, launcher and sweeper; `logging` calls what `()` and `class`
name and imports for `ext://`; a search path `pkg://` imports a package. A configuration may come with
somebody else's experiment, so only what installed packages have registered may stand in these places.

The check sits in the loader because everything passes through it before Hydra acts: the configuration of a
run, of a sweep, and of each job, in a launcher's processes as well.
"""

import dataclasses
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import importlib_resources_config_source as hydras
from hydra._internal.sources_registry import SourcesRegistry
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from omegaconf import DictConfig, OmegaConf

from bihm.cli.sweep import HOOKS
from bihm.errors import ConfigError

MOST_JOBS = 10_000
CALLS = {"_target_", "_args_", "_partial_", "_recursive_", "_convert_"}
COMMANDS = ("setup", "additional_parameters", "srun_args", "python")  # of a cluster's script
HANDLERS = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOG_FILE = "${hydra.runtime.output_dir}/train.log"
# References whose value is a plain text, whatever else the configuration says.
TEXTS = re.compile(r"\$\{(hydra\.(sweep\.dir|run\.dir|job\.name)|(now|oc\.env):[^${}]*)\}")


def install() -> None:
    """Make Hydra compose through `TrustedLoader` from now on."""
    hydra._internal.hydra.ConfigLoaderImpl = TrustedLoader  # type: ignore[misc]
    SourcesRegistry.instance().types["pkg"] = ImportlibResourcesConfigSource


class ImportlibResourcesConfigSource(hydras.ImportlibResourcesConfigSource):
    """Hydra's `pkg://`, which imports the package, for Hydra and its plugins alone.

    The name must be Hydra's: by it a launcher's process knows that the class is registered already.
    """

    def __init__(self, provider: str, path: str) -> None:
        if provider in ("main", "command-line") or provider.startswith("hydra.searchpath"):
            raise ConfigError(
                f"{path}: pkg:// imports a package; give a folder, as file:///a/folder"
            )
        super().__init__(provider, path)


class TrustedLoader(ConfigLoaderImpl):
    """Hydra's loader, which refuses a configuration that could make Hydra run code."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        """Compose, and check before anybody acts on the result.

        Raises:
            ConfigError: one line that names the key.
        """
        words = OverridesParser.create().parse_overrides(overrides)
        _check_words(words)
        with warnings.catch_warnings():
            # A folder that is not there; a file that takes the place of one of Hydra's or ours.
            warnings.simplefilter("error", UserWarning)
            composed = super().load_configuration(config_name, overrides, *args, **kwargs)
        _check(composed, {word.key_or_group for word in words})
        return composed


def _check_words(words: list[Override]) -> None:
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
    if word.is_sweep_override() or word.key_or_group not in ("model", "dataset", "experiment"):
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


def _check(composed: DictConfig, given: set[str]) -> None:
    raw = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(raw, dict)
    ours = raw.pop("hydra")
    ours.pop("env", None)  # a group of Hydra's that its own schema forgot
    for path, _, value in [*_walk(raw), *_walk(ours, "hydra")]:
        if "\0" in str(value):  # the system's own words for it differ from Python to Python
            raise ConfigError(f"{path} holds a null byte, which no path or name may")
    for path, key, value in _walk(raw):
        _refuse_if(key in CALLS, path, f"{value!r} names what to call")
    _check_keys("hydra", ours, HydraConf)  # what + slipped past Hydra's composition
    _check_output(raw, ours)
    _refuse_if(ours["callbacks"] not in ({}, HOOKS), "hydra.callbacks", "it names what to call")
    for name in ("launcher", "sweeper"):
        _check_plugin(name, ours[name], given)
    for name in ("job_logging", "hydra_logging"):
        _check_logging(f"hydra.{name}", ours[name])
    for name in ours["job"]["env_set"]:
        key = f"hydra.job.env_set.{name}"
        if key not in given and name not in ours["job"]["env_copy"]:
            raise ConfigError(f"{key} may only stand on the command line, as +{key}=VALUE")


def _check_output(raw: dict[Any, Any], ours: dict[str, Any]) -> None:
    """Refuse what Hydra would fall over with half a run directory made, or made elsewhere."""
    for group in ("model", "dataset"):
        name = raw[group].get("name") if isinstance(raw.get(group), dict) else None
        if "/" in str(name):
            raise ConfigError(f"{group}.name={name} must be one word: it names a folder")
    for name in ("run", "sweep"):
        if not ours[name]["dir"]:
            raise ConfigError(f"hydra.{name}.dir is empty; give a folder")
    inner = ours["output_subdir"]
    if inner is not None and Path(inner).name != inner:
        raise ConfigError(
            f"hydra.output_subdir={inner} must be one name: it lies in the run directory"
        )
    verbose = ours["verbose"]
    listed = verbose if isinstance(verbose, list) else [verbose]
    if not (isinstance(verbose, bool) or all(isinstance(name, str) for name in listed)):
        raise ConfigError(f"hydra.verbose must be true, false or names of loggers, got {verbose}")


def _refuse_if(wrong: bool, key: str, reason: str) -> None:
    if wrong:
        raise ConfigError(
            f"{key}: {reason}; a configuration may not choose code, only installed plugins do"
        )


def _walk(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every leaf and every branch below `node`: its full path, its key and its value."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in pairs if isinstance(node, dict | list) else ():
        below = f"{path}.{key}" if path else str(key)
        yield below, key, value
        if isinstance(value, dict | list):
            yield from _walk(value, below)


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


def _check_plugin(kind: str, node: Any, given: set[str]) -> None:
    """A launcher or sweeper must be a registered one, and nothing in it may become another call."""
    where = f"hydra.{kind}"
    registered = ConfigStore.instance().repo["hydra"][kind].values()
    known = {OmegaConf.select(entry.node, "_target_") for entry in registered}
    target = node.get("_target_") if isinstance(node, dict) else node
    _refuse_if(target not in known, where, f"{target!r} is no installed {kind}")
    for path, key, value in _walk(node, where):
        _refuse_if(key in CALLS and path != f"{where}._target_", path, "it names what to call")
        text = value if isinstance(value, str) else ""
        _refuse_if("${" in TEXTS.sub("", text), path, f"{text!r} is computed")
        # A line of its own would be a command in the script that a cluster runs.
        _refuse_if(not text.isprintable(), path, f"{text!r} has more than one line")
        # A sweeper turns its params into words, and words may do what files may not.
        hidden = path.startswith("hydra.sweeper.params.") and str(key).lstrip("+~").startswith(
            "hydra"
        )
        _refuse_if(hidden, path, "it sets Hydra's own keys")
        if key in COMMANDS and value and path not in given:
            raise ConfigError(f"{path} may only stand on the command line: it holds commands")


def _check_logging(where: str, node: Any) -> None:
    for path, key, value in [(where, "", node), *_walk(node, where)]:
        _refuse_if(key in ("()", "."), path, f"{value!r} names what to call")
        _refuse_if(key == "class" and value not in HANDLERS, path, f"{value!r} is no plain handler")
        text = value if isinstance(value, str) else ""
        _refuse_if(key == "filename" and text != LOG_FILE, path, f"{value!r} is not the run's log")
        _refuse_if("${" in text and text != LOG_FILE, path, f"{text!r} is computed")
        imports = re.match("(ext|cfg)://", text) is not None
        _refuse_if(imports and text not in STREAMS, path, f"{text!r} names what to import")
