"""Signals ask a run to stop; the run looks between two chunks and stops cleanly."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR2,
)  # submitit sends USR2 before preempting


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
    first warning; USR2 follows, and requeues the job.
    """
    request = StopRequest()
    theirs = {signal.SIGTERM} if callable(signal.getsignal(signal.SIGTERM)) else set()
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
