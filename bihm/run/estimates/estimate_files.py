"""Which rows are estimated again, and the files that the numbers go to."""

import contextlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bihm.data import Dataset, archive, load_for
from bihm.data import load as load_dataset
from bihm.data.layout import MISSING
from bihm.errors import ConfigError, DataError
from bihm.records.digests import digest_arrays
from bihm.records.results import doubts
from bihm.records.run_files import place, read_json, write_json
from bihm.run.build import fixed_rows
from bihm.run.estimates.drawn_rows import draw_rows
from bihm.run.estimates.listener import Listener
from bihm.run.trained import TrainedMachine
from bihm.run.training.own_rows import own_dataset


class Extras(NamedTuple):
    """What else than the estimates is asked for: part of a file's name, so that each keeps its own."""

    repeats: int = 1
    sandwich: bool = False
    given: str | None = None
    rows: int | None = None  # so many of the split's

    @property
    def name(self) -> str:
        """Nothing, or a part of a file's name."""
        parts = [] if self.rows is None else [f"rows{self.rows}"]
        parts += [f"repeats{self.repeats}"] if self.repeats > 1 else []
        parts += ["sandwich"] if self.sandwich else []
        parts += [] if self.given is None else [f"given-{Path(self.given).stem}"]
        return "".join(f"-{part}" for part in parts)


class RowsAndFiles(NamedTuple):
    """Rows to estimate, what is there of them, whose they are, and the file for each K."""

    rows: np.ndarray
    seen: np.ndarray | None  # bool, of the shape of rows; None where no value is missing
    about: dict[str, Any]  # what a file of estimates says of the rows
    files: dict[int, Path]
    row: dict[str, np.ndarray]  # which of the split they are, where they are not all of it

    def need_whole_rows(self, what: list[str]) -> None:
        """Refuse, of rows that lack values, what has to know all of them; ConfigError."""
        if self.seen is not None and what:
            missing = int((~self.seen).sum())
            raise ConfigError(
                f"{' and '.join(what)} cannot be had of rows that lack values, here {missing} of them"
            )

    def leave(self, result: dict[str, Any], arrays: dict[str, np.ndarray], to: Listener) -> None:
        """Show the result for one K, say what is doubtful about it, and write its files."""
        to.show(result)  # whatever becomes of the files
        for doubt in doubts(result):
            to.say(doubt)
        of_rows = {**self.row, **arrays} if arrays else {}
        leave_files(self.files[result["K"]], {**self.about, **result}, of_rows, to)


def leave_files(
    file: Path, block: dict[str, Any], arrays: dict[str, np.ndarray], to: Listener
) -> None:
    """Write a block and, if there are any, the numbers of its rows beside it.

    Numbers of rows that are there already go with a block that was another: they no longer belong to it.
    """
    before = file.read_bytes() if file.is_file() else None
    write_json(file, block)
    to.wrote(file)
    of_rows = file.with_suffix(".npz")
    if arrays:
        archive.write_npz(of_rows, arrays)
        to.wrote(of_rows)
    elif before is not None and before != file.read_bytes():
        of_rows.unlink(missing_ok=True)


def rows_and_files(
    machine: TrainedMachine,
    split: str,
    dataset: str | None,
    out: str | None,
    Ks: list[int],
    to: Listener,
    extras: Extras | None = None,
) -> RowsAndFiles:
    """Read the rows, and see that their files can be written, before the work."""
    identity, found = find_dataset(machine, dataset, missing=True)
    asked = extras or Extras()
    files = {
        K: file_of(machine, identity, f"{split}-K{K}{asked.name}", out, asked.given) for K in Ks
    }
    about: dict[str, Any] = {**tell_of_rows(identity, found, split, to)}
    about["parameters"] = parameters_of(machine)
    drawn = draw_rows(fixed_rows(machine.family, found, split), asked.rows, split, to)
    rows, about = drawn.rows, about | drawn.about
    seen = rows != MISSING
    if seen.all():
        return RowsAndFiles(rows, None, about, files, drawn.arrays)
    missing = f"{(~seen).sum():,} of {seen.size:,} values of split={split}"
    to.say(f"{missing} are missing: the numbers are those of the seen part of each row")
    empty = int((~seen.any(axis=1)).sum())
    if empty == len(seen):
        raise DataError(f"{identity}: no row of split={split} has any value")
    if empty:
        to.say(f"{empty} of the {len(seen)} rows have no value at all; the means leave them out")
    return RowsAndFiles(np.where(seen, rows, 0), seen, about, files, drawn.arrays)


def tell_of_rows(identity: str, found: Dataset, split: str, to: Listener) -> dict[str, str]:
    """Say which rows of a user's file these are, and return what a file of estimates says of them."""
    for note in found.notes:
        to.say(note)
    if found.cut is None:
        return {"dataset": identity}
    to.say(f"split={split} means {len(getattr(found, split))} of those rows")
    return {"dataset": identity, "cut": found.cut}


def find_dataset(
    machine: TrainedMachine, name: str | None, missing: bool = False
) -> tuple[str, Dataset]:
    """The run's own dataset, another one, or a file; and which it is: a name or a whole path.

    With `missing`, rows of a file may lack values: see `bihm.data.load`.
    """
    own = machine.config.dataset
    if name is None or name == own.name:
        identity = own.name
        dataset = own_dataset(machine.config, machine.stem, machine.exported_rows)
    elif name == "file":
        raise ConfigError("dataset=file: name the file itself, as dataset=rows.csv")
    elif Path(name).suffix:
        identity = os.path.abspath(name)
        dataset = load_for(machine.n_visible, name, missing)
    else:
        identity, dataset = name, load_dataset(name)
    if dataset.n_features != own.n_features:
        raise ConfigError(
            f"{identity} has {dataset.n_features} features; this run's machine has "
            f"{own.n_features} visible units"
        )
    return identity, dataset


def parameters_of(machine: TrainedMachine) -> str:
    """Which parameters estimates are those of: the beginning of a digest of them."""
    return digest_arrays(machine.params)[:16]


def name_of(machine: TrainedMachine) -> str:
    """The run directory or the weights file that a machine was read from."""
    return machine.stem[:-1]


def file_of(
    machine: TrainedMachine, identity: str, what: str, out: str | None, mask: str | None = None
) -> Path:
    """Where estimates go; not over those of another file of the same name, or of another machine."""
    other = "" if identity == machine.config.dataset.name else f"{Path(identity).stem}-"
    default = Path(f"{machine.stem}eval-{other}{what}.json")
    reads = [name_of(machine), identity, machine.config.dataset.path, mask]
    path = place(out, default, ".json", beside=[".npz"], reads=reads, replaces=True)
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        there = read_json(path)
        if not isinstance(there, dict):
            return path
        if there.get("dataset", identity) != identity:
            raise ConfigError(
                f"{path} holds the estimates of {there['dataset']}; move it away first"
            )
        given = there.get("given")
        if isinstance(given, dict) and given.get("mask") != mask:
            raise ConfigError(
                f"{path} holds the estimates given another mask, {given.get('mask')}; move it away first"
            )
        known = parameters_of(machine)
        if path != default and there.get("parameters", known) != known:
            raise ConfigError(
                f"{path} holds the estimates of other parameters, of another run or of this one before; "
                "choose another out="
            )
    return path
