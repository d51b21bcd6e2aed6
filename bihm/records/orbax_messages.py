"""What orbax and TensorStore say of damage and of a full disk; we tell it in one line.

An array that fails ends the reading of all, and orbax closes the event loop under the arrays still on
their way. Whether those then complain, and by which of two roads, is a race.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STATUS = re.compile(r"[A-Z_]+: ")  # how TensorStore's errors begin: "OUT_OF_RANGE: ..."


def silence_orbax() -> None:
    """Silence all of it, once. Other errors of asyncio and of finalisers are still told; absl's are not."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_of_no_array)
    if not isinstance(sys.unraisablehook, _ButLateArrays):
        sys.unraisablehook = _ButLateArrays(sys.unraisablehook)


@contextmanager
def root_left_alone() -> Iterator[None]:
    """Keep absl, through which orbax tells things, from configuring logging for all of the program.

    It does where the root logger has no handler, and then the caller's own `logging.basicConfig` would do
    nothing. The handler of here is the one that Python itself uses in that case: warnings go to stderr.
    """
    handler = logging.lastResort
    if logging.root.handlers or handler is None:
        yield
        return
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class _ButLateArrays:
    """A hook for `sys.unraisablehook`, deaf to arrays that found their event loop closed."""

    def __init__(self, report: Any):
        self.report = report

    def __call__(self, failure: Any) -> None:
        if str(failure.exc_value) != "Event loop is closed":
            self.report(failure)


def _is_of_no_array(record: logging.LogRecord) -> bool:
    """Not: 'Task exception was never retrieved', of an array that failed after another had."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, ValueError) and _STATUS.match(str(error)))


@contextmanager
def of_the_disk(path: Path) -> Iterator[None]:
    """Turn what the disk refuses inside, which TensorStore only writes into a text, into an OSError."""
    try:
        yield
    except Exception as error:
        told = re.search(r"os_error_code='(\d+)'", str(error))
        code = error.errno if isinstance(error, OSError) else told and int(told[1])
        if code is None:
            raise
        raise OSError(code, os.strerror(code), str(path)) from error
