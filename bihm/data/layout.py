"""How a text table is laid out: what separates its values, and what in it are names instead of bits.

numpy, MATLAB and Octave write bare rows. pandas and R write a line of column names above them and a column
of row names before them, unless they are told not to. What can be nothing but names is left out, and said;
a line that may be names or a row is refused.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from bihm.data.lines import Line
from bihm.errors import DataError

HEAD = 8  # lines that show the layout of all
SHOWN = 40  # characters of a line in a message
BLANK = b" "  # stands for any run of blanks and tabs
# numpy.savetxt writes 1 as 1.000000000000000000e+00, pandas a bool as True, R as TRUE, a German Excel 1,0.
BIT = re.compile(
    rb"(?:\+?(?P<one>1)|[+-]?0)(?:[.,]0*)?(?:[eE][+-]?0+)?|(?P<true>true)|false", re.IGNORECASE
)
NO_NAME = re.compile(r"n/?a|null|none|missing|undefined", re.IGNORECASE)  # float() knows nan, inf
ABSENT = re.compile(
    r"|\?|\.|[+-]?nan|<?n/?a>?|null|none|missing|undefined", re.IGNORECASE
)  # of a value that a row lacks; nothing at all between two commas
MISSING = 2  # in the place of a bit that a file lacks, where missing values are taken
TAKEN = (
    " (bihm-eval dataset=FILE takes missing values, of one run at one K; machine.given in Python)"
)
SEPARATORS = {b",": "commas", b";": "semicolons", b"\t": "tabs", BLANK: "blanks"}


class Layout(NamedTuple):
    """What the first lines of a table say about all of them."""

    separator: bytes  # a key of SEPARATORS
    header: bool  # the first line holds names
    row_names: bool  # the first value of each line names its row
    numbered: bool  # as its whole numbers show alone, which must then all differ
    unclear: bool  # the first line may be a header of column numbers, or a row
    width: int  # values of a row, without that name
    notes: tuple[str, ...]  # what was left out, for a person


def shown(text: bytes) -> str:
    """The beginning of a line or value as it goes into a message."""
    whole = text.decode("utf-8", "replace")
    return whole if len(whole) <= SHOWN else whole[:SHOWN] + ".."


def split(line: bytes, separator: bytes) -> list[bytes]:
    """The values of a line without blanks and quotes around them; an empty one stays, to be refused.

    ValueError: a quote that does not end.
    """
    if separator == BLANK:
        line = line.replace(b"\t", BLANK)
    if b'"' in line:
        text = line.strip(BLANK).decode("utf-8", "surrogateescape")
        reader = csv.reader(
            [text], delimiter=separator.decode(), skipinitialspace=True, strict=True
        )
        try:
            (values,) = reader
        except csv.Error as error:
            raise ValueError(f"{shown(line)!r} cannot be read: {error}") from error
        fields = [value.strip().encode("utf-8", "surrogateescape") for value in values]
    elif separator == BLANK:
        return line.split()
    else:
        fields = [field.strip() for field in line.split(separator)]
    if separator == b"\t" and len(fields) > 1 and not fields[-1]:
        fields.pop()  # programs that print "%d\t" end their lines so
    return fields


def _separator(lines: list[Line]) -> bytes:
    """What stands between the values of most lines; a header may hold anything."""
    texts = [re.sub(rb'"[^"]*"', b'""', line.text.strip()) for line in lines[1:] or lines]
    for separator in (b";", b",", b"\t"):
        found = [separator in text for text in texts]
        if separator == b"\t":  # beside blanks between values a tab is a blank
            found = [b"\t" in text and not re.search(rb"[0-9.] +[-+0-9.]", text) for text in texts]
        if 2 * sum(found) >= len(texts):
            return separator
    return BLANK


def is_name(field: bytes) -> bool:
    """Whether a value is a word that no number and no missing number is written as."""
    text = field.decode("utf-8", "replace")
    try:
        float(text)
    except ValueError:
        return (
            any(c.isalpha() for c in text)
            and ":" not in text  # LIBSVM's 3:1, qid:7
            and not NO_NAME.fullmatch(text)
            and not BIT.fullmatch(field)
        )
    return False


def is_absent(field: bytes) -> bool:
    """Whether a value is one that the row lacks."""
    return ABSENT.fullmatch(field.decode("utf-8", "replace")) is not None


def _are_names(fields: list[bytes]) -> bool:
    return bool(fields) and all(map(is_name, fields))


def _are_counted(fields: list[bytes]) -> bool:
    """0, 1, 2, .. as pandas calls columns without names, or 1, 2, 3, .. with two of them at least."""
    n = len(fields)
    zero = [b"%d" % i for i in range(n)]
    return n > 0 and (fields == zero or (n > 1 and fields == [*zero[1:], b"%d" % n]))


def _number_rows(rows: list[list[bytes]]) -> bool:
    """Whether the first values are different whole numbers, so many that they cannot be bits."""
    first = [row[0] for row in rows]
    whole = all(re.fullmatch(rb"[0-9]{1,18}", value) for value in first)
    return whole and len(rows) > 2 and len(rows[0]) > 1 and len(set(first)) == len(first)


def _repeat_a_bit(rows: list[list[bytes]]) -> bool:
    """Whether a 0 or a 1 stands several times in the first column, as in one of bits and not of names."""
    first = [row[0] for row in rows]
    return max(first.count(b"0"), first.count(b"1")) > 1


def _bare(line: bytes, separator: bytes) -> set[bool]:
    """How the digits 0 and 1 of a line are written: in quotes, without, or both."""
    fields = line.split(None if separator == BLANK else separator)
    return {b'"' in f for f in fields if f.strip().strip(b'"') in (b"0", b"1")}


def _names(lines: list[Line], rows: list[list[bytes]], separator: bytes) -> dict[str, bool]:
    """Which of `header`, `row_names`, `numbered` and `unclear` a layout is."""
    first, rest = rows[0], rows[1:]
    width, n = len(rest[0]) if rest else 0, len(first)
    if n == width - 1 and (_are_names(first) or (n > 2 and _are_counted(first))):
        return {"header": True, "row_names": True}  # R's write.table
    if n != width:
        return {}
    counted = _are_counted(first[1:]) and not _repeat_a_bit(rest)
    if n > 1 and not first[0] and (_are_names(first[1:]) or counted):
        return {"header": True, "row_names": True}  # pandas, and R's write.csv
    if _are_names(first) or (is_name(first[0]) and _are_counted(first[1:])):
        numbered = _number_rows(rest)
        return {"header": True, "row_names": numbered, "numbered": numbered}
    if _number_rows(rows):
        return {"row_names": True, "numbered": True}
    if _are_counted(first) or (n == 2 and set(first) == {b"0", b"1"}):
        alike = bool(_bare(lines[0].text, separator) & _bare(lines[1].text, separator))
        if alike and n < 3 and all(map(BIT.fullmatch, first)):
            return {"unclear": True}
        return {"header": True}  # as a row it would hold a 2, or be written unlike the next one
    return {}


def layout(path: Path, lines: list[Line]) -> Layout:
    """See how a table is laid out, from its first HEAD lines; DataError for one without rows."""
    if not lines:
        raise DataError(f"{path}: is empty; every line is a row of 0 and 1")
    separator = _separator(lines)
    try:
        rows = [split(line.text, separator) for line in lines]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if len(rows) == 1 and _are_names(rows[0]):
        raise DataError(f"{path}: line {lines[0].number} holds names, and no row follows it")
    found = {"header": False, "row_names": False, "numbered": False, "unclear": False}
    found |= _names(lines, rows, separator)
    notes = []
    first = rows[0]
    if found["header"]:
        notes.append(f"line {lines[0].number}, {shown(lines[0].text)!r}, holds names and is no row")
        first = rows[1]
    if found["row_names"]:
        notes.append(f"the first column ({shown(first[0])!r}, ..) names the rows and is left out")
    width = len(first)
    if separator == b"\t" and lines[found["header"]].text.endswith(b"\t"):
        width = max(
            map(len, rows[found["header"] :])
        )  # a row whose last value is absent ends so too
    return Layout(separator, **found, width=width - found["row_names"], notes=tuple(notes))
