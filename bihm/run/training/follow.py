"""What a process does that is not the first of its run: it computes with the others, and writes nothing."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bihm.config import to_dict
from bihm.errors import ConfigError, DataError
from bihm.machine.training_step import evaluated_params
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.digests import digest_arrays, digest_text
from bihm.run.build import Run, first_state
from bihm.run.training.loop import TrainingLoop
from bihm.run.training.processes import from_first, in_step
from bihm.signals import stop_request


class Silence:
    """A logbook, and a display of progress, that nobody reads."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Whatever it is told: nothing."""
        return lambda *_, **__: None


def same_work(run: Run) -> dict[str, str]:
    """What all processes of a run must have in common, digested."""
    rows = (run.dataset.train, run.dataset.valid, run.dataset.test)
    return {"command": digest_text(to_dict(run.config)), "rows": digest_arrays(rows)}


def _check_same(first: dict[str, str], here: dict[str, str], dataset: str) -> None:
    if first["command"] != here["command"]:
        raise ConfigError("this process was given another command than the first one of its run")
    if first["rows"] != here["rows"]:
        raise DataError(f"{dataset}: other rows than the first process of this run has")


def follow(run: Run, directory: Path) -> dict[str, Any]:
    """Train with the first process, which has claimed the directory, and return its results.

    Raises:
        BihmError: what ended the first process, or all of them.
        ConfigError: this process was given another command than the first one.
        DataError: it reads other rows.
    """
    begins = from_first(None)
    if begins["finished"] is not None:
        finished: dict[str, Any] = begins["finished"]
        return finished
    with (
        stop_request() as stop,
        closing(Checkpoints(directory, run.config)) as checkpoints,
        in_step(lambda status, reason: None),
    ):
        _check_same(begins["work"], same_work(run), run.config.dataset.name)
        state = first_state(run)
        start = checkpoints.restore(state) or Checkpoint(state, state, {})
        nobody: Any = Silence()
        loop = TrainingLoop(run, nobody, checkpoints, nobody, stop, start)
        params = evaluated_params(loop.train())
        run.family.results(run.keys, run.structure, params, run.fixed_rows, loop.heed_signals)
        results: dict[str, Any] = from_first(None)
    return results
