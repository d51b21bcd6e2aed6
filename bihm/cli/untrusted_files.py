"""What a file may say to Hydra: nothing that chooses code, whoever wrote it.

Hydra calls what `_target_` names in its callbacks, launcher and sweeper, `logging` calls what a handler
names, and a search path may import a package. The words of the command line may ask for all that: they are
the user's own. A YAML file in a folder (a recipe, an imported dataset) may set our keys, which call
nothing, and the few of Hydra's in `HARMLESS`. Hydra's defaults and what installed packages registered are
no files in a folder, and `train.yaml` is ours: these are not looked at.

The check sits where Hydra loads each file, of a run, of a sweep and of each job, in a launcher's processes
as well.
"""

import re
import warnings
from typing import Any

import hydra._internal.hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from bihm.cli import overrides as checks
from bihm.cli.going_on import enlist
from bihm.config import GROUPS, Config, flatten
from bihm.errors import ConfigError

HARMLESS = ("hydra.mode", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
PARAMS = "hydra.sweeper.params."
# What reads nothing but the configuration and the clock.
REFERENCE = re.compile(r"\$\{([\w.\[\]]+|(now|bihm\.len|bihm\.layers):[^${}]*)\}")


def install() -> None:
    """Make Hydra compose through `Loader` from now on."""
    hydra._internal.hydra.ConfigLoaderImpl = Loader  # type: ignore[misc]


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which looks at each file and at the whole before anybody acts on it."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kwargs: Any
    ) -> DictConfig:
        """Compose.

        Raises:
            ConfigError: one line that names the file or the word, and the key.
        """
        checks.check_words(OverridesParser.create().parse_overrides(overrides))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a folder that is not there
            composed = super().load_configuration(config_name, overrides, *args, **kwargs)
        checks.check_composed(composed)
        return composed

    def _load_single_config(self, default: Any, repo: Any) -> ConfigResult:
        result = super()._load_single_config(default, repo)
        scheme, _, folder = result.path.partition("://")
        if scheme == "file" and not default.primary:  # `command_words` refuses another primary file
            _check_file(f"{folder}/{default.config_path}.yaml", default.package or "", result)
        return result

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Compose one job of a sweep.

        Raises:
            ConfigError: as `load_configuration`, or another job would use the same folder.
        """
        job = super().load_sweep_config(master_config, sweep_overrides)
        enlist(job, sweep_overrides, master_config)
        return job


def _check_file(path: str, package: str, result: ConfigResult) -> None:
    if package.partition(".")[0] == "experiment":
        raise ConfigError(f"{path}: a recipe must begin with the line '# @package _global_'")
    for item in result.defaults_list or ():
        text = f"{getattr(item, 'group', '')} {getattr(item, 'path', '')}"
        if "hydra" in re.split(r"[/ ]", text) or item.package is not None or "$" in text:
            raise ConfigError(
                f"{path}: its defaults may name model, dataset and recipes; give {text.strip()!r} "
                "on the command line"
            )
    for key, value in checks.values_within(OmegaConf.to_container(result.config, resolve=False)):
        param = key.removeprefix(PARAMS) if key.startswith(PARAMS) else None
        if param is not None and (param in GROUPS or param in flatten(Config())):
            checks.check_words(OverridesParser.create().parse_overrides([f"{param}={value}"]))
        elif key.partition(".")[0] == "hydra" and key not in HARMLESS:
            raise ConfigError(f"{path}: {key} may only be given on the command line")
        text, count = str(value), 1
        while count:
            text, count = REFERENCE.subn("_", text)
        if "${" in text:
            raise ConfigError(
                f"{path}: {key}: {value!r} reads more than the configuration and the clock; "
                "give it on the command line"
            )
