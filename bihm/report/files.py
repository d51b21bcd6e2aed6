"""What a run's files say: its configuration, its numbers, and its records of training, whole or damaged."""

import contextlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bihm.errors import ConfigError
from bihm.records.results import number
from bihm.records.runs import require_any, rows, rows_of


class RunFiles(NamedTuple):
    """A run as its files have it, which may be a stranger's: nothing here is trusted to be of a type."""

    directory: Path
    label: str  # the part of its path that tells it from the others
    row: dict[str, Any]  # configuration and final numbers, as `bihm.records.runs` has them
    records: list[dict[str, Any]]  # of metrics.jsonl, ascending in epochs

    def number(self, name: str) -> float | None:
        """A number of the row that is one."""
        return as_number(self.row.get(name))

    def text(self, name: str) -> str:
        """An entry of the row as a text; none where there is nothing."""
        value = self.row.get(name)
        return "" if value is None else str(value)


def as_number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):  # a whole number beyond all floats
        return float(value) if math.isfinite(value) else None
    return None


def nats(value: float) -> str:
    """A number of nats for a person."""
    return minus(number(value))


def minus(text: str) -> str:
    """A printed number with a minus that is as wide as a digit."""
    return text.replace("-", "\N{MINUS SIGN}")


def read_runs(directories: Sequence[Path]) -> list[RunFiles]:
    """Read runs by their directories.

    Raises:
        ConfigError: one is no run, or is given twice.
    """
    for directory in directories:
        require_any(directory)
    places = [os.path.realpath(directory) for directory in directories]
    for directory, place in zip(directories, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"run={directory} is given twice")
    return _read(directories, _labels(places))


def read_sweep(folder: Path) -> list[RunFiles]:
    """Read all runs at or below a folder, by name.

    Raises:
        ConfigError: there is none, or no such folder.
    """
    directories = [Path(row["directory"]) for row in rows(folder)]
    if not directories:
        raise ConfigError(f"sweep={folder} holds no run; give the folder of a sweep of bihm-train")
    return _read(directories, [os.path.relpath(one, folder) for one in directories])


def _read(directories: Sequence[Path], labels: Sequence[str]) -> list[RunFiles]:
    found = zip(directories, labels, rows_of(directories), strict=True)
    return [RunFiles(place, label, row, _records(place)) for place, label, row in found]


def _labels(places: Sequence[str]) -> list[str]:
    """The ends of paths that tell them apart; of one path, what says what it is."""
    if len(places) == 1:
        return ["/".join(Path(places[0]).parts[1:][-3:])]
    shared = os.path.commonpath(places)
    if shared in places:  # one run lies within another
        shared = os.path.dirname(shared)
    return [os.path.relpath(place, shared) for place in places]


def _records(directory: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl, in the order of their epochs; of one epoch, the last."""
    by_epoch: dict[float, dict[str, Any]] = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                epoch = as_number(record.get("epoch")) if isinstance(record, dict) else None
                if epoch is not None:
                    by_epoch[epoch] = record
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]
