"""Checkpoints: the latest and the best state of a run, saved together so that they always agree."""

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from bihm.errors import DataError
from bihm.learner import TrainState

KEEP = 2  # one to fall back to, should the newest be damaged


class Checkpoint(NamedTuple):
    """One saved moment of a run."""

    latest: TrainState
    best: TrainState  # the state whose score `memory` claims
    memory: dict[str, Any]  # JSON: what the loop knows besides the states


class Checkpoints:
    """The folder `checkpoints/` of a run: numbered sub-folders, each complete or absent."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._manager = ocp.CheckpointManager(
            folder.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True),
            item_names=("latest", "best", "memory"),
        )

    def save(self, checkpoint: Checkpoint) -> None:
        """Write in the background, under the next number.

        Not under the training step: two moments of one step may differ, before an evaluation and after.
        """
        newest = self._manager.latest_step()
        # The next chunk takes the buffers of `latest` for its own, so the writer gets copies.
        latest, best = jax.tree.map(np.array, (checkpoint.latest, checkpoint.best))
        self._manager.save(
            0 if newest is None else newest + 1,
            args=ocp.args.Composite(
                latest=ocp.args.StandardSave(latest),
                best=ocp.args.StandardSave(best),
                memory=ocp.args.JsonSave(checkpoint.memory),
            ),
        )

    def restore(self, like: TrainState) -> Checkpoint | None:
        """Read the newest checkpoint into states shaped `like`; None where there is none.

        Raises:
            DataError: the checkpoint is damaged or belongs to another machine.
        """
        number = self._manager.latest_step()
        if number is None:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            items = self._manager.restore(
                number,
                args=ocp.args.Composite(
                    latest=ocp.args.StandardRestore(shapes),
                    best=ocp.args.StandardRestore(shapes),
                    memory=ocp.args.JsonRestore(),
                ),
            )
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise DataError(
                f"{self.folder / str(number)}: this checkpoint cannot be read ({reason})"
            ) from error
        return Checkpoint(items["latest"], items["best"], items["memory"])

    def __str__(self) -> str:
        number = self._manager.latest_step()
        return f"{self.folder / str(number)}" if number is not None else "none was written yet"

    def wait(self) -> None:
        """Return when all that was saved is on disk; errors of the background writer surface here."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()


def read_checkpoint(directory: Path, like: TrainState) -> Checkpoint:
    """Read the newest checkpoint of a run that nobody writes to, and leave nothing open.

    Raises:
        DataError: there is no checkpoint, or it cannot be read.
    """
    folder = directory / "checkpoints"
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no checkpoint")
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        found = checkpoints.restore(like)
    if found is None:
        raise DataError(f"{folder}: there is no checkpoint")
    return found
