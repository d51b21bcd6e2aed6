"""How every command ends: one line for what went wrong, and one exit code for one cause."""

import contextlib
import os
import select
import sys
import traceback
from collections.abc import Iterator

from bihm.errors import CTRL_C, as_bihm_error

TRACEBACK = "BIHM_TRACEBACK"  # set to anything but 0: show where an error came from
HINT = f"{TRACEBACK}=1 shows the traceback"
NOBODY_READS = 141  # as a shell reports SIGPIPE


@contextlib.contextmanager
def command(program: str, advice: str = "") -> Iterator[None]:
    """Run the body of a command; leave by `SystemExit` with its code, and silently where all went well.

    `advice` says what needs less memory, where memory is what is missing.
    """
    code: object = 0
    try:
        yield
    except SystemExit as leaving:
        code = leaving.code
    except BaseException as error:
        code = tell(program, error, advice)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            code = code or tell(program, error)
        _discard_output()
    if code:
        sys.exit(code)  # type: ignore[arg-type]  # whatever SystemExit held


def tell(program: str, error: BaseException, advice: str = "") -> int:
    """Say in one line on stderr what `error` is about, and return the exit code for it."""
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        _discard_output()
        return NOBODY_READS
    shown = isinstance(error, KeyboardInterrupt)
    failure = None if shown else as_bihm_error(error, advice, HINT)
    # A terminal that has gone away reads nothing, and sys.stderr is None where it was closed.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if os.environ.get(TRACEBACK, "0") not in ("", "0"):
            sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.write(f"{program}: {'interrupted' if failure is None else failure}\n")
        sys.stderr.flush()
    return CTRL_C if failure is None else failure.exit_code


def _nobody_reads() -> bool:
    """Whether it is the reader of stdout who has left, as `| head` does."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))  # an error, which needs no asking for
    return False


def _discard_output() -> None:
    """Let Python not try again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
