"""What can go wrong for a user, each kind with the exit code that the README promises.

The message of such an error is one line that says what was wrong, where, and what would be right;
the command line prints it without a traceback.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def one_line(text: str) -> str:
    """A text with what would break the line, or what a terminal would obey, spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


CTRL_C = 130  # the exit code of a command that it ends, as a shell reports SIGINT
LESS_MEMORY = "lower K or batch_size"  # advice to whom memory is lacking in training


class BihmError(Exception):
    """Anything that ends a command with a message instead of a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        # A file's name or content may hold line breaks, or codes that a terminal would obey.
        return one_line(super().__str__())

    @property
    def reason(self) -> str:
        """The kind and the message, for a record of what failed."""
        return f"{type(self).__name__}: {self}"


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
    """Stopped by the signal of this name after a clean checkpoint if there was anything to save."""

    exit_code = 75

    def __str__(self) -> str:
        return f"stopped by {self.args[0]}; the same command goes on from here"


class OutOfMemory(BihmError):
    """The memory of the machine or of its device does not suffice."""

    @property
    def reason(self) -> str:
        return str(self)


class Unexpected(BihmError):
    """A defect, of ours or of a library: the user can only tell us."""

    @property
    def reason(self) -> str:
        return str(self)


def as_bihm_error(error: BaseException, advice: str = "", where: str = "") -> BihmError:
    """What to tell a user of whatever ended the work: itself, where it is an error of ours already.

    `advice` says what would need less memory, `where` how to see the traceback of what nobody foresaw.
    """
    if isinstance(error, BihmError):
        return error
    if wanted := _memory_wanted(error):
        return OutOfMemory("; ".join(filter(None, [wanted, advice])))
    if isinstance(error, OSError):
        return cannot_write(error) or BihmError(_refusal(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (
        f"unexpected {type(error).__name__}{': ' if lines else ''}{lines[0][:300] if lines else ''}"
    )
    return Unexpected("; ".join(filter(None, [text, where])))


# The words of XLA (on processors, cards and TPUs), of C++ and of the system for a lack of memory.
_MEMORY = re.compile(
    "RESOURCE_EXHAUSTED|out of memory|bad_alloc|failed to allocate|failed to map segment",
    re.IGNORECASE,
)
_SIZE = re.compile(
    r"(?:allocat\w*|used)\D{0,40}?(\d+(?:\.\d+)?) ?(bytes\b|[KMGTP]i?B?\b|B\b)", re.IGNORECASE
)


def _memory_wanted(error: BaseException) -> str:
    """How much memory was lacking, as far as the error says; nothing for any other error."""
    text = str(error)
    # jax is not imported for this: its class is known by its name.
    lacks = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    reported = isinstance(error, ImportError) or type(error).__name__.endswith("RuntimeError")
    if not lacks and not (reported and _MEMORY.search(text)):
        return ""
    found = _SIZE.search(text)
    if found is None:
        return "out of memory"
    unit = found[2][0].upper()
    size = float(found[1]) * (1024 ** "KMGTP".index(unit) * 1024 if unit != "B" else 1)
    prefixes = ["", "k", "M", "G", "T", "P"]
    while size >= 999.5 and len(prefixes) > 1:
        size /= 1000
        del prefixes[0]
    return f"out of memory: {size:.3g} {prefixes[0]}B wanted"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in what the disk refuses inside; the system names none for a write that fails."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def disk_refusals(key: str = "") -> Iterator[None]:
    """Tell what the disk refuses inside in one line: the file, the reason and what would help.

    `key` is as in `cannot_write`.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(error, key) or BihmError(_refusal(error)) from error


# A command named a folder that is not there, is none, or is not this user's to write to.
_NO_PLACE = (
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EACCES, errno.EPERM, errno.EROFS,
)  # fmt: skip


def cannot_write(error: BaseException, key: str = "") -> BihmError | None:
    """What to say if this error is about a lack of room, or a place that is not for this user.

    `key` is that of the command line which chose the place to write to, where that is known.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return BihmError(f"{_refusal(error)}; make room there and run the same command again")
    if number in _NO_PLACE:
        if not key:  # it may be reading that was refused
            return ConfigError(_refusal(error))
        return ConfigError(
            f"{_refusal(error, 'nothing can be written there: ')}; choose another {key}"
        )
    return None


def _refusal(error: BaseException, what: str = "") -> str:
    where = getattr(error, "filename", None)
    why = getattr(error, "strerror", None) or error
    if getattr(error, "errno", None) == errno.EEXIST:  # of a file where a folder is to be made
        why = os.strerror(errno.ENOTDIR)
    return f"{why}" if where is None else f"{where}: {what}{why}"
