"""Lets Hydra 1.3 make its parser of words on Python 3.14 and later.

There, `argparse` reads each help text when its option is added. Hydra gives one option an object instead,
which becomes a text when somebody asks for it, as it needs a search for plugins; the check takes it
for a badly formed text.
"""

import argparse
from types import SimpleNamespace

import hydra._internal.utils as hydras


class UncheckedParser(argparse.ArgumentParser):
    """A parser that reads its help texts when it prints them, as before Python 3.14."""

    def _check_help(self, action: argparse.Action) -> None:
        """Nothing, where Python's own reads the text."""


def install() -> None:
    """Give Hydra this parser from now on. Other users of `argparse` keep Python's."""
    names = {**vars(argparse), "ArgumentParser": UncheckedParser}
    hydras.argparse = SimpleNamespace(**names)  # type: ignore[assignment]
