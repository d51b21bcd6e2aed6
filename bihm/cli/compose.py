"""The words of `bihm-train` given by a program: composed as at the prompt, and no trace left in Hydra."""

import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra._internal.hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from omegaconf import DictConfig, open_dict
from omegaconf.basecontainer import BaseContainer

from bihm import paths
from bihm.cli import imports, sweep, untrusted_files
from bihm.cli.command_words import turn
from bihm.config import Config, explain, parse
from bihm.config import register as register_schema
from bihm.errors import BihmError, ConfigError

DIRECTORY = "hydra.run.dir"
_ALONE = threading.Lock()  # Hydra has one state in a process


def compose_words(words: Sequence[str]) -> tuple[Config, Path]:
    """The configuration that words such as "model=rws" make, and the run directory that they choose.

    Raises:
        ConfigError: what `bihm-train` with these words would say.
    """
    _check(words)
    with _ALONE, _own_hydra():
        composed = _composed(turn(words, sweep=False))
        directory = Path(str(composed.hydra.run.dir))
        with open_dict(composed):
            del composed["hydra"]
        given = [word.partition("=")[0].lstrip("+~") for word in words]
        return parse(composed, given), directory


def _composed(words: Sequence[str]) -> DictConfig:
    try:
        with initialize_config_dir(str(paths.configs()), job_name="train", version_base="1.3"):
            return compose("train", list(words), return_hydra_config=True)
    except BihmError:
        raise
    except Exception as error:  # Hydra's and OmegaConf's, of many kinds
        raise ConfigError(explain(error)) from error


def _check(words: Sequence[str]) -> None:
    """Refuse what only a command can do; what is wrong with the rest is told as the command tells it."""
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(f"a word is a text such as 'model=rws', got {word!r}")
        if word.startswith("-"):
            raise ConfigError(f"{word!r} is for the command; a word here is key=value")
        key = word.partition("=")[0].lstrip("+~").partition("@")[0]
        if key.startswith(("hydra.", "hydra/")) and key != DIRECTORY:
            raise ConfigError(f"{key} has no meaning here; of Hydra's own keys, only {DIRECTORY}")
    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
    except Exception as error:
        raise ConfigError(explain(error)) from error
    for one in parsed:
        if one.is_sweep_override():
            raise ConfigError(
                f"{one.input_line}: several values make a sweep, which is for the command; a list is [a,b]"
            )


@contextlib.contextmanager
def _own_hydra() -> Iterator[None]:
    """Give Hydra a state of ours for a while: whoever calls may be a Hydra app, or may compose, too."""
    theirs, loader = Singleton._instances, hydra._internal.hydra.ConfigLoaderImpl
    resolvers = dict(BaseContainer._resolvers)
    Singleton._instances = {
        kind: copy.deepcopy(one)
        for kind, one in theirs.items()
        if kind not in (GlobalHydra, HydraConfig)
    }
    try:
        register_schema()
        sweep.register()
        imports.register()
        untrusted_files.install()
        yield
    finally:
        Singleton._instances = theirs
        BaseContainer._resolvers = resolvers
        hydra._internal.hydra.ConfigLoaderImpl = loader  # type: ignore[misc]
