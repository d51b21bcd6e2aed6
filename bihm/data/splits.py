"""A user's own rows as three splits: as the file says, as the files beside it say, or cut.

NAME.train.csv is read with NAME.valid.csv and NAME.test.csv (or .ts.csv) where both are beside it. Any
other single table is shuffled with a fixed seed and cut into 80 % train, 10 % valid, 10 % test.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm.data.files import LIBSVM, kind_of, read_parts
from bihm.errors import DataError, one_line

TRAIN = re.compile(r"(?P<name>.+)(?P<dot>[._-])train(?P<ending>\..+)")


class Splits(NamedTuple):
    """Bits, uint8 (rows, n_features) each, and where they come from."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    cut: str | None = None  # how a single table was cut into them
    notes: tuple[str, ...] = ()  # what a person should know of the file: a line each


def _same_width(splits: Splits, where: str) -> Splits:
    widths = [rows.shape[1] for rows in splits[:3]]
    if len(set(widths)) != 1:
        raise DataError(f"{where}: train, valid and test have {widths} features; one width is due")
    return splits


def _noted(path: Path, notes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one_line(f"{path}: {note}") for note in notes)


def _cut(rows: np.ndarray, path: Path, notes: tuple[str, ...]) -> Splits:
    """A single table as splits; DataError if it is too short for that."""
    tenth = len(rows) // 10
    if tenth == 0:
        raise DataError(
            f"{path}: has {len(rows)} rows; at least 10 are needed to cut it 80/10/10, "
            "or give train, valid and test"
        )
    # RandomState, since its stream is frozen for good: the same file always gives the same cut.
    rows = rows[np.random.RandomState(0).permutation(len(rows))]
    cut = (
        f"one table of {len(rows)} rows, shuffled by RandomState(0) and cut 80/10/10: "
        f"{len(rows) - 2 * tenth} train, {tenth} valid, {tenth} test"
    )
    own = "for splits of your own: .npz with train, valid, test, or bihm-data import --valid --test"
    return Splits(
        rows[: -2 * tenth],
        rows[-2 * tenth : -tenth],
        rows[-tenth:],
        cut,
        _noted(path, (*notes, f"{cut}; {own}")),
    )


def read_three(paths: tuple[Path, Path, Path], missing: bool = False) -> Splits:
    """A file for each split; DataError for one that has splits of its own, or another width."""
    parts = [read_parts(path, missing) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if len(part.arrays) != 1:
            raise DataError(
                f"{path}: has splits of its own; beside --valid and --test it needs one array"
            )
    arrays = [part.arrays[0] for part in parts]
    if all(
        kind_of(path) in LIBSVM for path in paths
    ):  # a feature that no row has on is not in them
        width = max(rows.shape[1] for rows in arrays)
        arrays = [np.pad(rows, ((0, 0), (0, width - rows.shape[1]))) for rows in arrays]
    train, valid, test = arrays
    notes = [
        note for path, part in zip(paths, parts, strict=True) for note in _noted(path, part.notes)
    ]
    return _same_width(Splits(train, valid, test, notes=tuple(notes)), ", ".join(map(str, paths)))


def _siblings(path: Path) -> tuple[Path, Path] | None:
    """NAME.valid.csv and NAME.test.csv, however they call themselves, beside NAME.train.csv.

    Raises:
        DataError: only one of the two is there: whoever made it does not want it to be ignored.
    """
    match = TRAIN.fullmatch(path.name)
    if match is None:
        return None

    def beside(*words: str) -> Path | None:
        names = (match["name"] + match["dot"] + word + match["ending"] for word in words)
        return next(
            (path.with_name(name) for name in names if path.with_name(name).is_file()), None
        )

    valid, test = beside("valid", "val", "validation", "dev"), beside("test", "ts")
    if valid is not None and test is not None:
        return valid, test
    for there, word in ((valid, "test"), (test, "valid")):
        if there is not None:
            lacking = f"{match['name']}{match['dot']}{word}{match['ending']}"
            raise DataError(
                f"{path}: {there.name} is beside it, but no {lacking}; splits are three files"
            )
    return None


def read(path: Path, missing: bool = False) -> Splits:
    """A user's file as three splits, with what a person should know of it; DataError.

    With `missing`, rows may lack values: see `read_parts`.
    """
    parts = read_parts(path, missing)
    if len(parts.arrays) == 3:
        train, valid, test = parts.arrays
        splits = Splits(train, valid, test, notes=_noted(path, parts.notes))
        return _same_width(splits, str(path))
    if (others := _siblings(path)) is not None:
        splits = read_three((path, *others), missing)
        beside = f"train; valid and test are {others[0].name} and {others[1].name} beside it"
        return splits._replace(notes=(*_noted(path, (beside,)), *splits.notes))
    return _cut(parts.arrays[0], path, parts.notes)
