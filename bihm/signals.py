"""Signals ask a run to stop; the run looks between two chunks and stops cleanly."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # the terminal, or the connection to it, has gone
    # Batch systems send one of these some time before the end: submitit USR2, others USR1 or XCPU.
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


class StopRequest:
    """Holds the name of the first signal that came, if one did."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait for anything
        self.signal = signal.Signals(number).name


def hand_on(name: str) -> None:
    """Give a signal that we have heeded to whoever handles it outside a run.

    submitit's handler puts the job back into the scheduler's queue. Python's own for Ctrl-C, which raises,
    has nothing to add.
    """
    number = signal.Signals[name]
    handler = signal.getsignal(number)
    if callable(handler) and handler is not signal.default_int_handler:
        handler(number, None)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the stop signals for a while, and give them back to whoever had them before.

    Where somebody handles SIGTERM already, it stays theirs: to submitit a scheduler's SIGTERM is only a
    first warning; USR2 follows, and requeues the job. What is ignored stays ignored: SIGHUP under nohup,
    SIGINT in the background of a script.
    """
    request = StopRequest()
    theirs = {n for n in STOP_SIGNALS if signal.getsignal(n) is signal.SIG_IGN}
    if callable(signal.getsignal(signal.SIGTERM)):
        theirs.add(signal.SIGTERM)
    try:
        before = {n: signal.signal(n, request) for n in STOP_SIGNALS if n not in theirs}
    except ValueError:  # not the main thread, where Python allows no handlers
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
