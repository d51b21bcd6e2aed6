"""Locks: a run directory, or a sweep's folder, is one process's at a time."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bihm.errors import ConfigError

log = logging.getLogger("bihm")


def hold(path: Path, taken: str) -> IO[bytes]:
    """Keep a lock file for this process until it is closed, or the process ends, however it does.

    Where the file system keeps no locks (some of clusters do not), a line says so.

    Raises:
        ConfigError: another process has it, in the words of `taken`.
    """
    while True:
        file = path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ConfigError(taken) from error
        except OSError as error:
            log.warning(
                "%s: no lock can be had (%s), so let no second process work there",
                path.parent,
                error.strerror,
            )
            return file
        if _is_there(file, path):
            return file
        file.close()  # whoever had it has removed it, and others may have made another


def _is_there(file: IO[bytes], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Keep a run directory for this process.

    Raises:
        ConfigError: another process has it.
    """
    with hold(directory / ".lock", f"{directory} is in use by another process"):
        yield
