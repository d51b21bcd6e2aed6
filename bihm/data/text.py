"""Rows of bits as text: a row per line, as numpy, pandas, R, MATLAB and spreadsheets write them."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm.data import archive
from bihm.data.layout import (
    BIT,
    HEAD,
    SEPARATORS,
    TAKEN,
    Layout,
    is_absent,
    is_name,
    layout,
    shown,
    split,
)
from bihm.data.lines import Line, read_lines
from bihm.errors import DataError


class Table(NamedTuple):
    """The rows of a text, uint8 (rows, features), and what was left out of it, for a person."""

    rows: np.ndarray
    notes: tuple[str, ...]


class _Words(dict[bytes, int]):
    """Bits by the words that stand for them, each looked at once; KeyError for any other word.

    `absent` is what missing values are to be, if they are taken.
    """

    def __init__(self, absent: int | None = None) -> None:
        super().__init__()
        self.absent = absent

    def __missing__(self, word: bytes) -> int:
        match = BIT.fullmatch(word)
        if match is not None:
            self[word] = int(bool(match["one"] or match["true"]))
        elif self.absent is not None and is_absent(word):
            self[word] = self.absent
        else:
            raise KeyError(word)
        return self[word]


def _hint(field: bytes, column: int, fields: list[bytes], kind: Layout) -> str:
    """What would be right in the place of a wrong value."""
    others = fields[:column] + fields[column + 1 :]
    if not field:
        what = SEPARATORS[kind.separator]
        return (
            f"a value is missing between two {what}, as pandas writes NaN; only 0 and 1 are bits"
            + TAKEN
        )
    if is_absent(field):
        return f"a missing value; only 0 and 1 are bits{TAKEN}"
    if len(field) > 1 and not field.strip(b"01"):
        return "values need commas or blanks between them"
    if re.fullmatch(rb"[0-9]+:[-+.0-9eE]+", field):
        return "LIBSVM's format: the name of the file must end in .libsvm or .svm"
    if column == 0 and len(fields) > 1 and all(map(BIT.fullmatch, others)):
        return (
            "only 0 and 1 are bits; if the first column holds labels or names of rows, leave it out "
            "(pandas: to_csv(index=False); R: row.names=FALSE)"
        )
    if is_name(field) and not kind.header:
        return "only 0 and 1, or True and False, are bits; a header has one name for each column"
    return "only 0 and 1, or True and False, are bits"


def _values(line: Line, path: Path, kind: Layout, words: _Words) -> tuple[bytes, bytes]:
    """The bits of a line, a byte each, and the name of the row, if it has one; DataError."""
    try:
        fields = split(line.text, kind.separator)
    except ValueError as error:
        raise DataError(f"{path}: line {line.number}: {error}") from error
    width = kind.width + kind.row_names
    if words.absent is not None and len(fields) == width - 1 and line.text.endswith(b"\t"):
        fields.append(b"")  # which `split` took for the end of the line
    if len(fields) == width:
        try:
            return bytes(map(words.__getitem__, fields[kind.row_names :])), fields[0]
        except KeyError:
            pass
    for column, field in enumerate(fields[kind.row_names :], start=int(kind.row_names)):
        absent = words.absent is not None and is_absent(field)
        if field not in words and not absent and BIT.fullmatch(field) is None:
            raise DataError(
                f"{path}: line {line.number}, value {column + 1} is {shown(field)!r}; "
                f"{_hint(field, column, fields, kind)}"
            )
    hint = "all rows need the same number"
    if line.number == 2:
        hint += "; if line 1 is no row, save without it (pandas: header=False; R: col.names=FALSE)"
    raise DataError(
        f"{path}: line {line.number} has {len(fields)} values, the one before {width}; {hint}"
    )


def _plain(line: bytes, kind: Layout) -> bytes | None:
    """The bits of a line of bare digits with one separator between two; None for any other line."""
    if len(line) != 2 * kind.width - 1 or kind.row_names:
        return None
    raw = np.frombuffer(line, dtype=np.uint8)
    bits = raw[::2] - ord("0")
    if (bits > 1).any() or (raw[1::2] != kind.separator[0]).any():
        return None
    return bits.tobytes()


def _begin(path: Path) -> tuple[Layout, Iterator[Line]]:
    """The layout of a text, and its rows without a header; where line 1 may be one (`unclear`), with it."""
    lines = read_lines(path)
    head = list(itertools.islice(lines, HEAD))
    kind = layout(path, head)
    return kind, itertools.chain(head[kind.header :], lines)


def _check_number(name: bytes, seen: set[bytes], line: Line, path: Path) -> None:
    """Hold the first column to be numbers of rows."""
    if name in seen or not name.isdigit():
        raise DataError(
            f"{path}: line {line.number}, value 1 is {shown(name)!r}; the first column has neither bits "
            "nor a new number for each row: leave it out (pandas: to_csv(index=False); R: row.names=FALSE)"
        )
    seen.add(name)


def _refuse_unclear(path: Path, width: int) -> None:
    line = next(read_lines(path))
    names = ["a", "b"][:width]
    raise DataError(
        f"{path}: line {line.number} is {shown(line.text)!r}, which may be a row or column numbers: "
        f"save the table as .npy, or with a line of names above it, such as {','.join(names)} "
        f"(pandas: to_csv(header={names}, index=False); R: col.names=TRUE)"
    )


def read(path: Path, size: int | None = None, missing: int | None = None) -> Table:
    """All rows of a text; DataError with file, line and value.

    `missing` is what an absent value is to be in the rows, if that is no error.
    `size` is how many values it must hold, where that is known: it tells a header `0,1` from a row.
    """
    kind, lines = _begin(path)
    if kind.unclear and size is None:
        _refuse_unclear(path, kind.width)
    words, names = _Words(missing), set[bytes]()
    values = bytearray()  # a list of short arrays would take a hundred times as much
    for line in lines:
        bits = _plain(line.text, kind)
        if bits is None:
            bits, name = _values(line, path, kind, words)
            if kind.numbered:
                _check_number(name, names, line, path)
        values += bits
        if len(values) > archive.LIMIT:
            raise DataError(f"{path}: more than {archive.LIMIT} values; the limit is 4 GiB")
    rows = np.frombuffer(values, dtype=np.uint8).reshape(-1, kind.width)
    if kind.unclear and rows.size != size:
        if rows.size - kind.width != size:
            _refuse_unclear(path, kind.width)
        rows = rows[1:]
    return Table(rows, kind.notes)


def peek_width(path: Path) -> int:
    """Number of values in a row, from the first lines alone; DataError if there is none."""
    kind, lines = _begin(path)
    if kind.unclear:
        _refuse_unclear(path, kind.width)
    _values(next(lines), path, kind, _Words())
    return kind.width
