"""The words of `bihm-train` before Hydra sees them: one line for what is wrong, nothing is unpickled."""

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from bihm import __version__
from bihm.errors import ConfigError

MODES = ("run", "multirun", "cfg", "info", "shell_completion")


def screen(words: Sequence[str]) -> list[str]:
    """Refuse the words that Hydra would answer with a usage, a traceback or a pickle.

    Returns them with all options first: Hydra's parser takes no key=value after an option between others.

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
    _check_folder("--config-dir", given.config_dir)
    _check_folder("--config-path", given.config_path)
    if given.config_path and not os.path.isabs(given.config_path):
        # Hydra takes it for a place inside the package.
        raise ConfigError(f"--config-path={given.config_path} must be absolute, from / on")
    return [*_options(parser, given), *given.overrides]


def _options(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Iterator[str]:
    """The options that were given, each as one word."""
    for action in parser._actions:
        value = getattr(given, action.dest, None)
        if action.option_strings and value not in (None, False):
            name = max(action.option_strings, key=len)
            yield name if value is True else f"{name}={value}"


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; `bihm-train --help` shows what there is")


def _check_folder(option: str, folder: str | None) -> None:
    if folder is not None and not os.path.isdir(folder):
        raise ConfigError(f"{option}={folder}: no such folder")
