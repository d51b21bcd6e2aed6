"""What can go wrong for a user, each kind with the exit code that the README promises.

The message of such an error is one line that says what was wrong, where, and what would be right;
the command line prints it without a traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def one_line(text: str) -> str:
    """A text with what would break the line, or what a terminal would obey, spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class BihmError(Exception):
    """Anything that ends a command with a message instead of a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        # A file's name or content may hold line breaks, or codes that a terminal would obey.
        return one_line(super().__str__())


class ConfigError(BihmError):
    """A wrong command or configuration."""

    exit_code = 2


class DataError(BihmError):
    """Data missing or damaged."""

    exit_code = 3


class NumbersError(BihmError):
    """The numbers broke: a NaN or an infinity."""

    exit_code = 4


class Interrupted(BihmError):
    """Stopped by the signal of this name after a clean checkpoint; the same command goes on."""

    exit_code = 75

    def __str__(self) -> str:
        return f"stopped by {self.args[0]}; the same command goes on from here"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in what the disk refuses inside; the system names none for a write that fails."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def disk_refusals() -> Iterator[None]:
    """Tell what the disk refuses inside in one line: the file, the reason and what would help."""
    try:
        yield
    except OSError as error:
        raise full_disk(error) or BihmError(_refusal(error)) from error


def full_disk(error: Exception) -> BihmError | None:
    """What to say if it is the lack of room that this error is about."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return BihmError(f"{_refusal(error)}; make room there and run the same command again")


def _refusal(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"
