"""Damage is told in one line, whatever orbax and TensorStore would add, and others still speak."""

import asyncio
import gc
import logging

import absl.logging
import pytest
from cases import rare

from bihm.records.orbax_messages import root_left_alone, silence_orbax

silence_orbax()


def never_retrieved(error):
    """A task fails and nobody asks how: asyncio logs that when the task is collected."""

    async def fail():
        raise error

    loop = asyncio.new_event_loop()
    task = loop.create_task(fail())
    # One turn of the loop; from Python 3.12 on, asyncio.wait would keep the task.
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task
    gc.collect()


def late(says):
    """An error where nobody can catch it: in a finaliser."""

    class Late:
        def __del__(self):
            raise RuntimeError(says)

    Late()
    gc.collect()


def test_an_array_that_fails_after_another_is_not_heard(caplog):
    status = 'OUT_OF_RANGE: Error reading "params/0" in OCDBT database at local file "latest/"'
    never_retrieved(ValueError(status))
    assert caplog.messages == []


@pytest.mark.parametrize("error", [RuntimeError("OUT_OF_RANGE: mine"), *rare(ValueError("mine"))])
def test_the_tasks_of_others_are_heard(caplog, error):
    never_retrieved(error)
    (line,) = caplog.messages
    assert "never retrieved" in line
    assert "mine" in line


@pytest.mark.long
def test_an_array_that_finds_its_loop_closed_is_not_heard_and_others_are(monkeypatch):
    heard = []
    monkeypatch.setattr("sys.unraisablehook", lambda failure: heard.append(str(failure.exc_value)))
    silence_orbax()
    late("mine")
    late("Event loop is closed")
    assert heard == ["mine"]


def test_the_callers_logging_stays_theirs_to_configure(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with root_left_alone():
        absl.logging.info("orbax tells something")
    assert logging.root.handlers == []
    absl.logging.info("and without it")
    assert logging.root.handlers != []
