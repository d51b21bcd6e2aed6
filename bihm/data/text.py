"""Rows of 0 and 1 as text: a row per line, values between commas or blanks."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bihm.data import archive
from bihm.errors import DataError

BOM = b"\xef\xbb\xbf"  # spreadsheets put it in front
LONGEST = 64 << 20  # bytes in a line
LONGEST_SHOWN = 32  # bytes of a wrong value; numpy.savetxt writes 24
# numpy.savetxt writes 1 as 1.000000000000000000e+00.
ONE = re.compile(rb"\+?([01])(?:\.0*)?(?:[eE][+-]?0+)?")


def _fields(line: bytes) -> list[bytes]:
    """The values of a line; with commas an empty one stays, so that it can be refused."""
    return [field.strip() for field in line.split(b",")] if b"," in line else line.split()


def _slow(fields: list[bytes], path: Path, row: int) -> np.ndarray:
    """Bits of a line whose fields are not all one byte wide; DataError at the first bad field."""
    values = []
    for column, field in enumerate(fields):
        match = ONE.fullmatch(field)
        if match is None:
            shown = field[:LONGEST_SHOWN].decode("utf-8", "replace")
            hint = "only 0 and 1 are bits"
            if not field:
                hint = "a value is missing between two commas"
            elif len(field) > 1 and not field.strip(b"01"):
                hint = "values need commas or blanks between them"
            elif row == 0 and field[:1].isalpha():
                hint = "only 0 and 1 are bits (remove the header line)"
            raise DataError(f"{path}: row {row}, column {column} is {shown!r}; {hint}")
        values.append(match[1] == b"1")
    return np.array(values, dtype=np.uint8)


def _bits(line: bytes, path: Path, row: int) -> np.ndarray:
    fields = _fields(line)
    joined = b"".join(fields)
    if len(joined) == len(fields) and b"" not in fields:
        values = np.frombuffer(joined, dtype=np.uint8) - ord("0")
        if (values <= 1).all():
            return values
    return _slow(fields, path, row)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without the blank ones at its end; DataError for a blank one before."""
    blank = None
    with archive.guarded(path, "a text file"), path.open("rb") as stream:
        # A file without line breaks is one line: read no more of it than a row can need.
        for row, line in enumerate(iter(lambda: stream.readline(LONGEST), b"")):
            if len(line) == LONGEST:
                raise DataError(f"{path}: row {row} is longer than {LONGEST} bytes, the limit")
            line = line.removeprefix(BOM) if row == 0 else line
            if not line.strip():
                blank = row if blank is None else blank
                continue
            if blank is not None:
                raise DataError(f"{path}: row {blank} is empty; every line is a row of 0 and 1")
            yield line


def read(path: Path) -> np.ndarray:
    """All rows, uint8 (rows, features); DataError with file, row and column."""
    rows: list[np.ndarray] = []
    size = 0
    for row, line in enumerate(_lines(path)):
        bits = _bits(line, path, row)
        if rows and len(bits) != len(rows[0]):
            raise DataError(
                f"{path}: row {row} has {len(bits)} values, row 0 has {len(rows[0])}; "
                "all rows need the same number"
            )
        rows.append(bits)
        size += len(bits)
        if size > archive.LIMIT:
            raise DataError(f"{path}: more than {archive.LIMIT} values; the limit is 4 GiB")
    if not rows:
        raise DataError(f"{path}: is empty; every line is a row of 0 and 1")
    return np.stack(rows)


def peek_width(path: Path) -> int:
    """Number of values in the first row; DataError if there is none."""
    line = next(_lines(path), None)
    if line is None:
        raise DataError(f"{path}: is empty; every line is a row of 0 and 1")
    return len(_bits(line, path, 0))
