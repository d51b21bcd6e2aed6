"""A training run started by a program: its log, and what it returns."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bihm.config import Config, DistributedConfig
from bihm.errors import LESS_MEMORY, ConfigError, OutOfMemory, as_bihm_error
from bihm.records.orbax_messages import root_left_alone
from bihm.run.load import read_run
from bihm.run.train import train
from bihm.run.trained import TrainedMachine

log = logging.getLogger("bihm")
# The logger and orbax's writing of checkpoints are the process's: runs of several threads would mix theirs.
_one_at_a_time = threading.Lock()


class TrainedRun(NamedTuple):
    """A finished run: what `bihm.train` returns.

    directory   where all of it is; `bihm.train` with the same words and this directory returns it again
    results     what its results.json says: results["test"]["log_p"]["mean"], ...
    machine     its best state, as `bihm.load(directory)` gives it
    """

    directory: Path
    results: dict[str, Any]
    machine: TrainedMachine


def train_run(config: Config, directory: Path) -> TrainedRun:
    """Train, go on, or return what has finished; see `bihm.train`."""
    if config.distributed != DistributedConfig():
        raise ConfigError("distributed.* is for bihm-train: this is one process")
    with _one_at_a_time, root_left_alone(), _kept_log(directory):
        try:
            results = train(config, directory)
        except Exception as error:
            failure = as_bihm_error(error, LESS_MEMORY)
            if isinstance(failure, OutOfMemory):  # of the machine's or of jax's own kind
                raise failure from error
            raise
    return TrainedRun(directory, results, read_run(directory))


@contextlib.contextmanager
def _kept_log(directory: Path) -> Iterator[None]:
    """Write the log lines into `train.log`, and show the caller those that they asked to see.

    A logger hands on only what its level lets through. So the level is that of the file for a while, and
    what goes on from here to the caller's handlers is what the level before would have let through.
    """
    level, propagate, shown = log.level, log.propagate, log.getEffectiveLevel()
    handlers = [_File(directory), _Onward(shown)] if propagate else [_File(directory)]
    log.setLevel(min(logging.INFO, shown))
    log.propagate = False
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.setLevel(level)
        log.propagate = propagate


class _Onward(logging.Handler):
    """Hands records to the handlers of the loggers above."""

    def emit(self, record: logging.LogRecord) -> None:
        if log.parent is not None:
            log.parent.callHandlers(record)


class _File(logging.FileHandler):
    """`train.log`, once there is a run directory: a refused run shall leave nothing."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "train.log", delay=True, encoding="utf-8")
        self.setLevel(logging.INFO)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._folder = directory
        self._waiting: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not self._folder.is_dir():
            self._waiting.append(record)
            return
        waiting, self._waiting = self._waiting, []
        for one in [*waiting, record]:
            super().emit(one)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told by what cannot go on, not by train.log."""
