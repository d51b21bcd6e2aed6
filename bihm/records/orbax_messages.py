"""What orbax and TensorStore would say of damage, besides the error they raise; we tell it in one line.

An array that fails ends the reading of all, and orbax closes the event loop under the arrays still on
their way. Whether those then complain, and by which of two roads, is a race.
"""

import logging
import re
import sys
from typing import Any

_STATUS = re.compile(r"[A-Z_]+: ")  # how TensorStore's errors begin: "OUT_OF_RANGE: ..."


def silence_orbax() -> None:
    """Silence all of it, once. Other errors of asyncio and of finalisers are still told; absl's are not."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_of_no_array)
    if not isinstance(sys.unraisablehook, _ButLateArrays):
        sys.unraisablehook = _ButLateArrays(sys.unraisablehook)


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
