"""Whom an evaluation tells of its result, its progress, its doubts and its files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bihm.machine.family import Report, silent


def nobody(what: Any) -> None:
    """A listener who does not care."""
    del what


class Listener(NamedTuple):
    """Functions that are told; by default nobody is."""

    show: Callable[[dict[str, Any]], None] = nobody  # a result, before anything is written
    report: Report = silent  # how many of how many parts are done
    say: Callable[[str], None] = nobody  # a line: which rows these are, what is not to be believed
    wrote: Callable[[Path], None] = nobody  # each file when it is there


NOBODY = Listener()
