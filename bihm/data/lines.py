"""The lines of a text table, counted as an editor counts them, without comments and blank ends."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bihm.data import archive
from bihm.errors import DataError

BOM = b"\xef\xbb\xbf"  # spreadsheets put it in front
LONGEST = 64 << 20  # bytes in a line
MOST_SKIPPED = 10_000  # comments, or blank lines at the end: more of them are no table
SEPARATOR = re.compile(rb'"?sep=."?', re.IGNORECASE)
FOREIGN = {  # how a file begins that is no text at all, and what to do about it
    b"\x1f\x8b": "is compressed by gzip; its name must end in .gz",
    b"PK\x03\x04": "is a zip archive or a workbook; save the table itself, as CSV",
    b"\xd0\xcf\x11\xe0": "is a workbook; save the table itself, as CSV",
    b"BZh": "is compressed by bzip2; expand it first",
    b"\xfd7zXZ": "is compressed by xz; expand it first",
    b"\xff\xfe": "is text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "is text in UTF-16; save it as UTF-8",
    b"\x93NUMPY": "is a NumPy array; its name must end in .npy",
    b"\x89HDF": "is an HDF5 file; save the table as text",
    b"MATLAB 5.0 MAT-file": "is a MATLAB file; its name must end in .mat",
}


class Line(NamedTuple):
    """One line and its number, from 1 on."""

    number: int
    text: bytes  # without the line break


def _raw(path: Path) -> Iterator[bytes]:
    """Line after line; DataError for one that is too long, and for what is no text."""
    with archive.guarded(path, "a text file"), archive.opened(path) as stream:
        # A file without line breaks is one line: read no more of it than a row can need.
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST), b""), start=1):
            if number == 1:
                for start, reason in FOREIGN.items():
                    if line.startswith(start):
                        raise DataError(f"{path}: {reason}")
                line = line.removeprefix(BOM)
            if len(line) == LONGEST:
                raise DataError(f"{path}: line {number} is longer than {LONGEST} bytes, the limit")
            line = line.rstrip(b"\r\n")
            if b"\r" in line:
                raise DataError(
                    f"{path}: line {number} has a carriage return inside; let lines end in \\n or \\r\\n "
                    "(Excel: save as CSV UTF-8, not as CSV Macintosh)"
                )
            yield line


def read_lines(path: Path) -> Iterator[Line]:
    """The lines that hold something; DataError for a blank one before another.

    What begins with `#` or `%` is a comment, as numpy.savetxt and Octave write it; `sep=;` is Excel's.
    """
    blank = skipped = 0
    for number, text in enumerate(_raw(path), start=1):
        stripped = text.strip()
        excel = number == 1 and SEPARATOR.fullmatch(stripped)
        if not stripped or excel or stripped.startswith((b"#", b"%")):
            blank = blank or (0 if stripped else number)
            skipped += 1
            if skipped > MOST_SKIPPED:
                raise DataError(f"{path}: more than {MOST_SKIPPED} lines are blank or comments")
            continue
        if blank:
            raise DataError(f"{path}: line {blank} is empty; every line is a row of 0 and 1")
        yield Line(number, text)
