"""Locks: one process has a folder, another is refused, and where there are none a line says so."""

import errno
import fcntl
import logging
from pathlib import Path

import pytest

from bihm.errors import ConfigError
from bihm.records import locks


def test_one_has_it_and_another_is_refused_until_it_is_let_go(tmp_path):
    with locks.hold(tmp_path / ".lock", "taken"):
        with pytest.raises(ConfigError, match="taken"):
            locks.hold(tmp_path / ".lock", "taken")
        with pytest.raises(ConfigError, match="taken"):  # the one that was refused let nothing go
            locks.hold(tmp_path / ".lock", "taken")
    locks.hold(tmp_path / ".lock", "taken").close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_on_the_file_system_work_goes_on_after_a_line(
    tmp_path, monkeypatch, caplog, number
):
    def flock(file, how):
        raise OSError(number, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING, "bihm"), locks.lock(tmp_path):
        pass
    assert caplog.messages == [
        f"{tmp_path}: no lock can be had (not here), so let no second process work there"
    ]


def test_a_lock_file_that_is_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Its owner removes it between another's opening and locking; a third may lock a new file."""
    path, flock, removed = tmp_path / ".lock", fcntl.flock, []

    def late(file, how):
        if not removed:
            Path(file.name).unlink()
            removed.append(file.name)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        locks.hold(path, "taken"),
        pytest.raises(ConfigError, match="taken"),
    ):
        locks.hold(path, "taken")
    assert removed
