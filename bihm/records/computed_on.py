"""What a run's numbers have been computed on: kept with the run, told when it changes."""

import logging
from pathlib import Path
from typing import Any

from bihm.records.run_files import write_json
from bihm.runtime import PLACES, recorded_places

log = logging.getLogger("bihm")


def note_place(directory: Path, here: dict[str, Any], *, fresh: bool) -> list[dict[str, Any]]:
    """Record what a run computes on from now on, and return all that it has computed on, in order.

    Says in one line what is different from before: the run then takes another path, if only by rounding.
    Of a run of before this record nothing is known, and nothing said.
    """
    places = [] if fresh else recorded_places(directory)
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
        write_json(directory / PLACES, places)
    return places
