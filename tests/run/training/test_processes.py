"""How one of several processes ends where it alone cannot go on: what it says, and its exit code."""

import errno

import pytest

from bihm.errors import DataError, Interrupted, NumbersError
from bihm.run.training import processes

FULL = OSError(errno.ENOSPC, "No space left on device", "run/metrics.jsonl")


class Left(Exception):
    """In the place of os._exit."""


@pytest.fixture
def one_of_several(monkeypatch):
    def leave(line, code):
        raise Left(line, code)

    monkeypatch.setattr(processes, "_joined", True)
    monkeypatch.setattr(processes, "leave_at_once", leave)


@pytest.mark.parametrize(
    ("error", "status", "line", "code"),
    [
        (DataError("rows: damaged"), "failed", "rows: damaged", 3),
        (FULL, "failed", "run/metrics.jsonl: No space left on device; make room there and", 1),
        (MemoryError(), "failed", "out of memory; lower K or batch_size", 1),
        (RuntimeError("Gloo: connection closed"), "interrupted", processes.LOST, 75),
        (KeyboardInterrupt(), "interrupted", "interrupted by the keyboard, at once", 130),
    ],
)
@pytest.mark.parametrize("disk_is_full", [False, True])
def test_a_process_that_cannot_go_on_says_why(
    one_of_several, disk_is_full, error, status, line, code
):
    said = []

    def say(*what):
        said.append(what)
        if disk_is_full:  # a status cannot be written either
            raise FULL

    with pytest.raises(Left) as ended, processes.in_step(say):
        raise error
    assert [what for what, _ in said] == [status]
    assert ended.value.args[0].startswith(line)
    assert ended.value.args[1] == code


@pytest.mark.parametrize("error", [Interrupted("SIGTERM"), NumbersError("the loss is nan")])
def test_what_all_processes_meet_alike_is_raised(one_of_several, error):
    with pytest.raises(type(error)), processes.in_step(lambda *what: None):
        raise error


def test_a_process_of_its_own_raises_all():
    with pytest.raises(KeyboardInterrupt), processes.in_step(lambda *what: None):
        raise KeyboardInterrupt
