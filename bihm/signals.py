"""Signals ask a run to stop; the run looks between two chunks and stops cleanly."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bihm.errors import Interrupted

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


_of_main: StopRequest | None = None  # that of the main thread, which hears for all


class _Stopped(KeyboardInterrupt):
    """What ends a command before there is anything to save: as Ctrl-C, which Python makes of SIGINT."""


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    del frame
    raise _Stopped(signal.Signals(number).name)


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Let a stop signal end what is inside, where nothing else heeds it, with a word and our exit code.

    What others handle, or ignore, stays theirs.

    Raises:
        Interrupted: a signal came.
    """
    ours = [n for n in STOP_SIGNALS if signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _stop_at_once)
    try:
        yield
    except _Stopped as stopped:
        raise Interrupted(stopped.args[0]) from stopped
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def hand_on(name: str) -> None:
    """Give a signal that we have heeded to whoever handles it outside a run.

    submitit's handler puts the job back into the scheduler's queue. Python's own for Ctrl-C, which raises,
    has nothing to add.
    """
    number = signal.Signals[name]
    handler = signal.getsignal(number)
    if callable(handler) and handler not in (signal.default_int_handler, _stop_at_once):
        handler(number, None)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch the stop signals for a while, and give them back to whoever had them before.

    Where somebody handles SIGTERM already, it stays theirs: to submitit a scheduler's SIGTERM is only a
    first warning; USR2 follows, and requeues the job. What is ignored stays ignored: SIGHUP under nohup,
    SIGINT in the background of a script. Of several threads the main one hears for all.
    """
    global _of_main
    request = StopRequest()
    theirs = {n for n in STOP_SIGNALS if signal.getsignal(n) is signal.SIG_IGN}
    handler = signal.getsignal(signal.SIGTERM)
    if callable(handler) and handler is not _stop_at_once:
        theirs.add(signal.SIGTERM)
    try:
        before = {n: signal.signal(n, request) for n in STOP_SIGNALS if n not in theirs}
    except ValueError:  # not the main thread, where Python allows no handlers
        yield _of_main or request
        return
    outer, _of_main = _of_main, request
    try:
        yield request
    finally:
        _of_main = outer
        for number, handler in before.items():
            signal.signal(number, handler)
