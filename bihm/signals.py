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


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the stop signals for a while, and give them back to whoever had them before."""
    request = StopRequest()
    try:
        before = {number: signal.signal(number, request) for number in STOP_SIGNALS}
    except ValueError:  # not the main thread, where Python allows no handlers
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
