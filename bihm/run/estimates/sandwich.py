"""How much an estimate of log p lacks: a lower and an upper one, on rows that the machine dreamt."""

from typing import Any

import numpy as np

from bihm.kernels.spread import tiles_at_once, work_on_tiles
from bihm.machine.family import Report, silent
from bihm.machine.sandwich import Sandwich, sandwich_tile
from bihm.records.results import pair_of
from bihm.run.arguments import check_seed
from bihm.run.build import make_keys
from bihm.run.estimates.splits import TILE, each_tile, own_block
from bihm.run.trained import TrainedMachine

ROWS = 1000  # dreamt


def sandwich_rows(
    machine: TrainedMachine,
    K: int,
    rows: int = ROWS,
    *,
    seed: int | None = None,
    report: Report = silent,
) -> Sandwich:
    """Dream rows, and estimate the log p of each from below and from above, with K samples.

    Arrays of the host: rows as uint8 (rows, visible), estimates (rows,), nats, float64.
    """
    key = make_keys(machine.config.seed if seed is None else check_seed(seed)).sandwich
    block = own_block(machine.config, K)
    height = min(rows, max(1, TILE // block))

    def estimate(numbers: range) -> list[Sandwich]:
        made = work_on_tiles(
            sandwich_tile, key, numbers, machine.structure, machine.params,
            common=(np.int32(K),), rows=height, block=block,
        )  # fmt: skip
        return [made[i] for i in range(len(numbers))]

    at_once = tiles_at_once(machine.params)
    parts = zip(*each_tile(estimate, -(-rows // height), report, at_once), strict=True)
    x, lower, upper = (np.concatenate(part)[:rows] for part in parts)
    return Sandwich(x.astype(np.uint8), lower.astype(np.float64), upper.astype(np.float64))


def sandwich_block(found: Sandwich, K: int) -> dict[str, Any]:
    """What a file of estimates says of it: means and standard errors over the rows, in nats."""
    values = {"lower": found.lower, "upper": found.upper, "gap": found.upper - found.lower}
    pairs = {name: pair_of(rows) for name, rows in values.items()}
    return {"examples": len(found.lower), "K": K, **pairs}
