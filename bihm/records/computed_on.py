"""What a run's numbers have been computed on: kept with the run, told when it changes."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from bihm.records.run_files import write_json
from bihm.runtime import THREADS, processor_name, threads

log = logging.getLogger("bihm")
RECORD = ".arithmetic"  # in a run directory: what its numbers were computed on, one entry for each change
MOST_THREADS = 1024
PARTITIONABLE = "jax_threefry_partitionable"  # which stream of random numbers a key gives
_held = False  # XLA makes its threads once in a process


def hold_threads(directory: Path) -> None:
    """Let XLA use as many threads as a run began with, so that it goes on bit for bit on other cores.

    Not where the user has said how many, and only before the first run of a process.
    """
    global _held
    first, _held = not _held, True
    if not first or any(name in os.environ for name in THREADS):
        return
    recorded = (recorded_arithmetic(directory) or [{}])[-1].get("threads")
    if type(recorded) is int and 1 <= recorded <= MOST_THREADS and recorded != threads():
        log.info(
            "computing with %d threads, as this run began, so that it goes on bit for bit; "
            "%s=%d in front of the command uses all cores",
            *(recorded, THREADS[0], threads()),
        )
        os.environ[THREADS[0]] = str(recorded)


def recorded_arithmetic(directory: Path) -> list[dict[str, Any]]:
    """What a run's numbers were computed on so far; nothing where that is not known."""
    try:
        content = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    known = isinstance(content, list) and all(isinstance(place, dict) for place in content)
    return content if known else []


def arithmetic(precision: str, devices: int = 1) -> dict[str, Any]:
    """What the rounding of a run's numbers, and its random numbers, depend on beside its configuration.

    `devices` is on how many of them it computes.
    """
    import jax
    import jaxlib

    device = jax.devices()[0]
    here: dict[str, Any] = {"platform": " ".join(device.client.platform_version.split())}
    if device.platform == "cpu":
        here |= {"processor": processor_name(), "threads": threads()}
    return here | {
        "device": device.device_kind,
        "devices": devices,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "threefry_partitionable": bool(getattr(jax.config, PARTITIONABLE, True)),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "precision": precision,
    }


def note_arithmetic(directory: Path, here: dict[str, Any], *, fresh: bool) -> list[dict[str, Any]]:
    """Record what a run computes on from now on, and return all that it has computed on, in order.

    Says in one line what is different from before: the run then takes another path, if only by rounding.
    Of a run of before this record nothing is known, and nothing said.
    """
    places = [] if fresh else recorded_arithmetic(directory)
    if places and places[-1] != here:
        before = places[-1]
        changed = [
            f"{name} was {before.get(name)}, now {here.get(name)}"
            for name in {**before, **here}
            if before.get(name) != here.get(name)
        ]
        log.warning(
            "%s: from here on the numbers are not, bit for bit, those of a run that stayed where it was",
            "; ".join(changed),
        )
    if not places or places[-1] != here:
        places = [*places, here]
        write_json(directory / RECORD, places)
    return places
