"""The same estimates with other seeds: how far apart they are, and what follows for their error."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bihm.errors import ConfigError
from bihm.machine.family import Report, silent
from bihm.machine.intervals import Interval, pooled_log_z, star_interval, two_level
from bihm.machine.likelihood import Estimates, LogZ
from bihm.machine.rules import has_p_star
from bihm.run.trained import TrainedMachine

MOST = 1000
POWERS = {"log_p": 1.0, "log_p_tilde_star": 0.5}  # of the weights whose mean an estimate is


class Repeated(NamedTuple):
    """Estimates with R seeds, their means for each row, and 2 log Z of all seeds together."""

    each: Sequence[Estimates]
    mean: Estimates
    log_z: LogZ | None


def repeat(
    machine: TrainedMachine,
    rows: np.ndarray,
    K: int,
    repeats: int,
    split: str,
    report: Report = silent,
) -> Repeated:
    """Estimate rows with the run's seed, and with the R - 1 that follow it.

    Raises:
        ConfigError: too many repeats, or a single row, whose error nobody can know.
    """
    if not 1 <= repeats <= MOST:
        raise ConfigError(f"repeats must be at least 1 and at most {MOST}, got {repeats}")
    if repeats > 1 and len(rows) < 2:
        raise ConfigError("repeats needs two rows or more: one has no error over rows")
    seeds = [(machine.config.seed + i) % 2**32 for i in range(repeats)]
    has_z = has_p_star(machine.config.model.name)
    zs = [machine.two_log_z(seed=seed, report=report) for seed in seeds if has_z]
    each: list[Estimates] = []
    for seed in seeds:
        already = len(each)

        def of_all(done: int, total: int, already: int = already) -> None:
            report(already * total + done, repeats * total)

        each.append(machine.estimates(rows, K, seed=seed, split=split, report=of_all))
    mean = Estimates(*(np.mean(field, axis=0) for field in zip(*each, strict=True)))
    return Repeated(each, mean, pooled_log_z(zs) if zs else None)


def repeats_block(found: Repeated) -> dict[str, Any]:
    """What a file of estimates says of R repeats, in the place of what it says of one."""
    names = list(POWERS)[: 1 if found.log_z is None else 2]
    block: dict[str, Any] = {"repeats": len(found.each)}
    for name in names:
        values = np.stack([getattr(one, name) for one in found.each])
        block[name] = two_level(values, POWERS[name])._asdict() | {"bias": "low"}
    if found.log_z is not None:
        tilde = Interval(*(block["log_p_tilde_star"][name] for name in Interval._fields))
        star = star_interval(tilde, found.log_z, len(found.mean.log_p))
        too_high = found.log_z.stderr**2 / 2
        bias = (
            f"low as log_p_tilde_star; high by about {too_high:.1e}, since 2 log Z is low by that"
        )
        block["log_p_star"] = star._asdict() | {"bias": bias}
    return block


def spread_of_rows(found: Repeated) -> dict[str, np.ndarray]:
    """For each row the standard error of its mean over the repeats, over samples alone."""
    arrays = {}
    for name in list(POWERS)[: 1 if found.log_z is None else 2]:
        values = np.stack([getattr(one, name) for one in found.each])
        sem = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        arrays[f"{name}_sem"] = sem.astype(np.float32)
    return arrays
