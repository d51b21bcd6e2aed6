"""Estimates at several K in one pass: how much of log p more samples would still find."""

from collections.abc import Sequence

import numpy as np

from bihm.machine.family import Report, silent
from bihm.machine.likelihood import Estimates
from bihm.run.arguments import MOST_SAMPLES, whole
from bihm.run.build import make_keys
from bihm.run.estimates.splits import estimate_curve, own_block
from bihm.run.trained import TrainedMachine


def curve(
    machine: TrainedMachine,
    rows: np.ndarray,
    Ks: Sequence[int],
    split: str = "test",
    report: Report = silent,
) -> list[Estimates]:
    """Estimates of 0/1 rows, uint8 (rows, visible), for each of several ascending K; fields are float64.

    Each K has the first of the samples of the largest, whose numbers are those of `machine.estimates`.
    """
    for K in Ks:
        whole("K", K, 1, MOST_SAMPLES)
    key = getattr(make_keys(machine.config.seed), split)
    block = own_block(machine.config, Ks[-1])
    found = estimate_curve(
        key, machine.structure, machine.params, rows, Ks, block=block, report=report
    )
    return [Estimates(*(np.asarray(field, np.float64) for field in one)) for one in found]
