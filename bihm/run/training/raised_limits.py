"""A run that is given more epochs, patience or time than it had: where that is exact, and where not.

Exact is what goes through the steps of a run that had the new limits from its first one: bit for bit. How
often a run evaluates may follow from its limits (`eval.every=null`); one that goes on keeps its period. So
its best state and its end are those of the other run where both evaluate at the same moments.
"""

import contextlib
from pathlib import Path
from typing import Any

from bihm.config import Config, flatten
from bihm.errors import ConfigError
from bihm.records.checkpoint import Checkpoints
from bihm.run.build import Phase, Run, first_state, phases
from bihm.run.training.stopping import Memory


def is_longer(saved: Config, wanted: Config, results: dict[str, Any]) -> bool:
    """Whether a finished run may go on: what ended it has been raised, or taken away.

    Raises:
        ConfigError: other epochs would have made another run of it.
    """
    old, new = phases(saved), phases(wanted)
    for before, after in zip(old, new, strict=True):
        _check_rate(before, after)
    match results["train"]["stopped_by"]:
        case "epochs":
            return new[-1].epochs > old[-1].epochs
        case "patience":
            return _above(new[-1].patience, old[-1].patience)
        case "max_seconds":
            return _above(wanted.max_seconds, saved.max_seconds)
    return False


def _above(new: int | float | None, old: int | float | None) -> bool:
    """Whether a limit, of which None is the highest, has been raised."""
    return old is not None and (new is None or new > old)


def check_exact(saved: Config, run: Run, directory: Path) -> None:
    """See that the checkpoint of a run, if there is one, is on the way of a run with the new limits.

    Raises:
        ConfigError: it is not; one line with the limit and the reason. Nothing has been changed.
    """
    old, new = phases(saved), phases(run.config)
    with contextlib.closing(Checkpoints(directory, run.config, read_only=True)) as checkpoints:
        found = checkpoints.restore(first_state(run))
    if found is None or old == new:  # nothing was done yet that other limits could have changed
        return
    memory = Memory(**found.memory)
    for i in range(memory.phase):
        if old[i] != new[i]:
            raise ConfigError(
                f"{directory}: the limits of phase {i + 1}, which has ended, cannot change; "
                f"raise those of phase {memory.phase + 1} alone (optim.phases), or {_ELSEWHERE}"
            )
    steps = int(found.latest.step) - memory.phase_step
    _check_phase(old[memory.phase], new[memory.phase], steps / run.plan.steps_per_epoch, directory)


def changed_limits(saved: Config, wanted: Config) -> list[str]:
    """Name the limits that are others than before."""
    before, after = flatten(saved), flatten(wanted)
    keys = ("epochs", "stop.patience", "max_seconds", "optim.phases")
    return [
        f"{key} was {before[key]}, now {after[key]}" for key in keys if before[key] != after[key]
    ]


_ELSEWHERE = "choose another hydra.run.dir"


def _check_rate(old: Phase, new: Phase) -> None:
    if old.epochs != new.epochs and new.lr != new.lr_end:
        raise ConfigError(
            f"epochs was {old.epochs}, now {new.epochs}, but the rate of optim.schedule=cosine depends on "
            f"their number, from the first step on; {_ELSEWHERE}"
        )


def _check_phase(old: Phase, new: Phase, done: float, directory: Path) -> None:
    """See that the phase under way would have come to where it is."""
    _check_rate(old, new)
    if new.epochs < done:
        raise ConfigError(
            f"{directory}: epochs was {old.epochs}, now {new.epochs}, but {done:g} are done; {_ELSEWHERE}"
        )
    if _above(old.patience, new.patience):
        raise ConfigError(
            f"{directory}: patience was {old.patience}, now {new.patience}, which might have ended it "
            f"before; {_ELSEWHERE}"
        )
