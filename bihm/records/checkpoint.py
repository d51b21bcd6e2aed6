"""Checkpoints: the latest and the best state of a run, saved together so that they always agree.

Beside the arrays lies one JSON item: what the loop knows, the run's configuration, and digests of all.
Orbax notices most damage by itself, but neither a flipped bit in the numbers nor another run's files.
"""

import contextlib
import errno
import logging
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bihm.config import Config, differences, from_dict, to_dict
from bihm.errors import ConfigError, DataError, writing
from bihm.machine.training_step import TrainState
from bihm.paths import plain
from bihm.records.digests import digest_arrays, digest_text
from bihm.records.orbax_messages import of_the_disk, silence_orbax

KEEP = 2  # one to fall back to, should the newest be damaged
FORMAT = 1
STATES = ("latest", "best")
# What the system refuses for want of rights or room says nothing against the file.
INNOCENT = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

log = logging.getLogger("bihm")
silence_orbax()


class Checkpoint(NamedTuple):
    """One saved moment of a run."""

    latest: TrainState
    best: TrainState  # the state whose score `memory` claims
    memory: dict[str, Any]  # JSON: what the loop knows besides the states


class Damaged(Exception):
    """Why one checkpoint cannot be used; the one before it may be whole."""


class Checkpoints:
    """The folder `checkpoints/` of a run: numbered sub-folders, each complete or absent.

    Whoever only reads a run says so with `read_only`: then nothing is written or moved. Of several
    processes that train it, all do the same at the same time and the first one writes; one that only
    reads does so alone.
    """

    def __init__(self, directory: Path, config: Config, *, read_only: bool = False):
        self.folder = directory / "checkpoints"
        self.config = config
        self._reads_alone = read_only
        self._writes = not read_only and jax.process_index() == 0
        self._links = contextlib.ExitStack()
        # Made when the first checkpoint is complete: tells a run that lost all from one that had none.
        self._proof = directory / ".checkpointed"

    @cached_property
    def _manager(self) -> Any:
        from orbax.checkpoint import CheckpointManager, CheckpointManagerOptions
        from orbax.checkpoint.options import MultiprocessingOptions

        own = jax.process_index()
        alone = MultiprocessingOptions(primary_host=own, active_processes={own})
        among = alone if self._reads_alone else MultiprocessingOptions()
        options = CheckpointManagerOptions(
            max_to_keep=KEEP, create=False, multiprocessing_options=among
        )
        items = (*STATES, "memory")
        folder = self._links.enter_context(plain(self.folder.resolve()))
        return CheckpointManager(folder, options=options, item_names=items)

    def prepare(self) -> None:
        """Import orbax, if it has not been: a third of a second, best spent while the device works."""
        _ = self._manager

    def save(self, checkpoint: Checkpoint) -> None:
        """Write in the background, under the next number; OSError where the disk refuses.

        Not under the training step: two moments of one step may differ, before an evaluation and after.
        """
        from orbax.checkpoint import args

        newest = self._manager.latest_step()
        # The next chunk takes the buffers of `latest` for its own, so the writer gets copies.
        latest, best = jax.tree.map(np.array, (checkpoint.latest, checkpoint.best))
        memory = _seal(Checkpoint(latest, best, checkpoint.memory), self.config)
        with of_the_disk(self.folder):
            self.folder.mkdir(exist_ok=True)
            self._manager.save(
                0 if newest is None else newest + 1,
                args=args.Composite(
                    latest=args.StandardSave(latest),
                    best=args.StandardSave(best),
                    memory=args.JsonSave(memory),
                ),
            )
        if not self._proof.exists():
            self.wait()

    def restore(self, like: TrainState) -> Checkpoint | None:
        """Read the newest whole checkpoint into states shaped `like`; None where there never was one.

        Damaged ones that are newer get another name, so that they stay and nobody reads them again.

        Raises:
            DataError: they are gone, none is whole, or one is of another run; nothing has been changed.
        """
        damaged: dict[int, Damaged] = {}
        numbers = self._manager.all_steps() if self.folder.exists() else []
        for number in sorted(numbers, reverse=True):
            try:
                found = self._read(number, like)
            except Damaged as error:
                damaged[number] = error
            else:
                self._set_aside(damaged, f"using {number}, of step {int(found.latest.step)}")
                self._prove()
                return found
        if damaged:
            reasons = "; ".join(f"{number}: {error}" for number, error in damaged.items())
            raise DataError(
                f"{self.folder}: no checkpoint is whole ({reasons}); nothing was changed"
            )
        if self._proof.exists():
            raise DataError(
                f"{self.folder}: the checkpoints of this run are gone; put them back, "
                "or start anew with another hydra.run.dir"
            )
        return None

    def _read(self, number: int, like: TrainState) -> Checkpoint:
        from orbax.checkpoint import args

        sealed = self._items(number, memory=args.JsonRestore())["memory"]
        _check(sealed)
        self._refuse_foreign(number, sealed["config"])
        # Into numpy: orbax would tie jax's arrays to a device, and all programs be compiled once more.
        numbers = args.StandardRestore(jax.tree.map(np.asarray, like))
        states = self._items(number, **dict.fromkeys(STATES, numbers))
        for name in STATES:
            if digest_arrays(states[name]) != sealed["sha256"][name]:
                raise Damaged(f"its {name} state is not the one that was saved")
        latest, best = (jax.device_put(states[name], may_alias=False) for name in STATES)
        return Checkpoint(latest, best, sealed["memory"])

    def _items(self, number: int, **wanted: Any) -> Any:
        from orbax.checkpoint.args import Composite

        try:
            with of_the_disk(self.folder / str(number)):
                return self._manager.restore(number, args=Composite(**wanted))
        except MemoryError:
            raise
        except Exception as error:  # damage fails in any way that orbax and others invent
            if isinstance(error, OSError) and error.errno in INNOCENT:
                raise
            raise Damaged(f"{' and '.join(wanted)} cannot be read") from error

    def _refuse_foreign(self, number: int, saved: Any) -> None:
        path = self.folder / str(number)
        try:
            changed = differences(from_dict(saved), self.config)
        except ConfigError as error:
            raise DataError(f"{path}: is of another version of bihm ({error})") from error
        if changed:
            raise DataError(f"{path}: is of another run: {', '.join(changed)}")

    def _set_aside(self, damaged: dict[int, Damaged], instead: str) -> None:
        for number, error in damaged.items():
            path = self.folder / str(number)
            kept = f"kept as {_rename(path).name}; " if self._writes else ""
            log.warning("%s is damaged (%s); %s%s", path, error, kept, instead)
        if damaged:
            self._manager.reload()

    def _prove(self) -> None:
        if self._writes:
            with writing(self._proof):
                self._proof.touch()

    def __str__(self) -> str:
        number = self._manager.latest_step()
        return f"{self.folder / str(number)}" if number is not None else "none was written yet"

    def wait(self) -> None:
        """Return when all that was saved is on disk; OSError where the disk refused it."""
        with of_the_disk(self.folder):
            self._manager.wait_until_finished()
        self._prove()

    def close(self) -> None:
        """Wait, and leave nothing open; OSError where the disk refused what was saved."""
        if "_manager" in self.__dict__:  # or nothing has been opened
            with self._links, of_the_disk(self.folder):
                self._manager.close()


def has_begun(directory: Path) -> bool:
    """Whether a run has, or ever had, a checkpoint; one that was never completed is none."""
    complete = (directory / "checkpoints").glob("*[0-9]")
    return (directory / ".checkpointed").exists() or any(path.name.isdecimal() for path in complete)


def read_checkpoint(directory: Path, config: Config, like: TrainState) -> Checkpoint:
    """Read the newest whole checkpoint of a run; nothing is written, and nothing is left open.

    Raises:
        DataError: there is no checkpoint, none that is whole, or one of another run.
    """
    with contextlib.closing(Checkpoints(directory, config, read_only=True)) as checkpoints:
        found = checkpoints.restore(like)
    if found is None:
        raise DataError(f"{directory / 'checkpoints'}: there is no checkpoint")
    return found


def _seal(checkpoint: Checkpoint, config: Config) -> dict[str, Any]:
    """The JSON item: what the loop knows, whose checkpoint it is, and digests of everything."""
    text = {"format": FORMAT, "config": to_dict(config), "memory": checkpoint.memory}
    digests = {name: digest_arrays(getattr(checkpoint, name)) for name in STATES}
    return {**text, "sha256": {**digests, "text": digest_text(text)}}


def _check(sealed: Any) -> None:
    """Damaged, if a JSON item is not what `_seal` made; the digests of arrays speak for themselves."""
    if not isinstance(sealed, dict) or not isinstance(sealed.get("sha256"), dict):
        raise Damaged("memory has no digest")
    text = {key: value for key, value in sealed.items() if key != "sha256"}
    if digest_text(text) != sealed["sha256"].get("text") or not sealed["sha256"].keys() >= {
        *STATES
    }:
        raise Damaged("memory is not the one that was saved")
    if text.get("format") != FORMAT:
        raise Damaged(f"its format is {text.get('format')}, not {FORMAT}")


def _rename(path: Path) -> Path:
    """Move a damaged checkpoint to a name that orbax does not look at, and that is free."""
    spare, count = path.with_name(f"{path.name}.damaged"), 1
    while spare.exists():
        count += 1
        spare = path.with_name(f"{path.name}.damaged.{count}")
    return path.rename(spare)
