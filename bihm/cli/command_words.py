"""The words of `bihm-train` before Hydra sees them: one line for what is wrong, nothing is unpickled."""

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from bihm import __version__
from bihm.cli import like, literal_paths
from bihm.errors import ConfigError

COMPLETION = re.compile("(install|uninstall|query)=(bash|fish|zsh)")
MODES = ("run", "multirun", "cfg", "info", "shell_completion")


def turn(overrides: Sequence[str], sweep: bool) -> list[str]:
    """Read paths literally, and like=RUN as the name of a configuration that Hydra finds.

    Raises:
        ConfigError: `like` names no run, or a model is chosen by its key `name` alone.
    """
    pairs = [word.lstrip("+").partition("=") for word in overrides]
    if [key for key, *_ in pairs].count("like") > 1:
        raise ConfigError("like is given twice")
    given = {key: text for key, _, text in pairs}
    if "model.name" in given:  # a model is more than its name: it has keys and defaults of its own
        name = given["model.name"]
        raise ConfigError(f"model.name={name}: choose the model with model={name}")
    return [_turn(word, given, sweep) for word in overrides]


def _turn(word: str, given: dict[str, str], sweep: bool) -> str:
    key, _, text = word.partition("=")
    if key.lstrip("+") != "like" or text == "null":
        return literal_paths.quote(word, sweep)
    if not text:
        raise ConfigError("like= is empty; give a run directory")
    runs = literal_paths.split(text, sweep) or [text.strip("'\"")]
    return f"{key}=" + ",".join(like.offer(run, given) for run in runs)


def screen(words: Sequence[str]) -> list[str]:
    """Refuse the words that Hydra would answer with a usage, a traceback or a pickle.

    Returns the words for Hydra, options first: its parser takes no key=value after an option in between.

    Raises:
        ConfigError: one line with the word and what would be right.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # argparse prints its usage first
    for action in parser._actions:
        if isinstance(action, argparse._VersionAction):
            action.version = f"bihm-train {__version__}"
    given = parser.parse_intermixed_args(list(words))
    if given.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun reads a pickle, which could run anything; give the command again"
        )
    modes = [mode for mode in MODES if getattr(given, mode)]
    if len(modes) > 1:
        raise ConfigError(f"--{modes[0]} and --{modes[1]} exclude each other".replace("_", "-"))
    if given.resolve and not (given.cfg or given.help):
        raise ConfigError("--resolve goes with --cfg job, --cfg hydra or --cfg all")
    if given.resolve and given.cfg == "hydra":  # Hydra would look for our keys in its own part
        raise ConfigError("--resolve needs the whole: --cfg all --resolve --package hydra")
    if given.shell_completion and not (
        len(given.overrides) == 1 and COMPLETION.fullmatch(given.overrides[0])
    ):
        raise ConfigError(
            "--shell-completion takes install=bash, install=fish or install=zsh; "
            "`bihm-train --hydra-help` tells more"
        )
    if given.config_dir is not None and not os.path.isdir(given.config_dir):
        raise ConfigError(f"--config-dir={given.config_dir}: no such folder")
    for option in ("config_path", "config_name"):
        if (
            getattr(given, option) is not None
        ):  # a whole configuration from a file: see `untrusted_files`
            raise ConfigError(
                f"--{option.replace('_', '-')}: the configuration is bihm's own; like=RUN takes that "
                "of a run again, --config-dir=DIR experiment=NAME a recipe from DIR/experiment"
            )
    return [*_options(parser, given), *turn(given.overrides, given.multirun)]


def _options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Iterator[str]:
    """The options that were given, each as one word."""
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if action.option_strings and value not in (None, False):
            name = max(action.option_strings, key=len)
            yield name if value is True else f"{name}={value}"


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; `bihm-train --help` shows what there is")
