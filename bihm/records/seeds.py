"""Runs that differ in their seed alone: which ones they are, and their curves as a mean with a band."""

import contextlib
import json
import math
import re
import shutil
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bihm.config import MACHINE_KEYS, Config, flatten

FOLDER = "mean-over-seeds"  # in a sweep's folder: one run of TensorBoard's for each setting
LEAST = 2  # seeds that have a spread
BANDED = ("valid/", "train/")  # of the many norms a mean will do
LOW, HIGH = "mean-sd/", "mean+sd/"  # before a name: the lower and the upper edge of its band


class Setting(NamedTuple):
    """The runs of one configuration but for the seed, one for each seed."""

    values: dict[str, str]  # of the keys in which the settings differ
    jobs: list[Path]


def differing(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys in which flat configurations differ, in the order of the schema."""
    found = list(configs)
    return [key for key in flatten(Config()) if len({str(one.get(key)) for one in found}) > 1]


def settings(configs: Mapping[Path, Mapping[str, Any]]) -> list[Setting]:
    """Group runs, each with its flat configuration, by all keys but the seed and MACHINE_KEYS.

    A run that was made twice counts once: a second one adds no seed, and takes from the spread of them.
    """
    left_out = ("seed", *MACHINE_KEYS)
    keys = [key for key in differing(configs.values()) if key not in left_out]
    groups: dict[tuple[str, ...], dict[str, Path]] = {}
    for job, config in configs.items():
        group = groups.setdefault(tuple(str(config.get(key)) for key in keys), {})
        group.setdefault(str(config.get("seed")), job)
    return [
        Setting(dict(zip(keys, v, strict=True)), [*jobs.values()]) for v, jobs in groups.items()
    ]


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); of one value the latter is NaN."""
    sd = statistics.stdev(values) if len(values) >= LEAST else math.nan
    return statistics.fmean(values), sd


class Band(NamedTuple):
    """A number of several runs at one step."""

    mean: float
    sd: float


def curves(jobs: Sequence[Path]) -> dict[int, dict[str, Band]]:
    """Of the numbers of `metrics.jsonl`, mean and standard deviation at the steps that all runs have.

    Beyond the end of the run that stopped first there is no mean of all, so the curves end there.
    """
    from bihm.records.logbook import METRICS  # numpy and tensorboard: not at the start

    logs = [_points(job / METRICS) for job in jobs]
    found: dict[int, dict[str, Band]] = {}
    for step in sorted(set.intersection(*map(set, logs))):
        lines = [one[step] for one in logs]
        names = [name for name in lines[0] if all(name in line for line in lines)]
        found[step] = {name: Band(*mean_and_sd([line[name] for line in lines])) for name in names}
    return found


def write_means(groups: Sequence[Setting], folder: Path) -> None:
    """Log the mean curves of each setting with several seeds as runs of their own, below a sweep's folder.

    TensorBoard shows the band, mean -+ standard deviation, under Custom Scalars; there are no hparams.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    names = [_name(one) for one in groups]
    for i, one in enumerate(groups):
        if len(one.jobs) >= LEAST:
            name = names[i] if names.count(names[i]) == 1 else f"{i}-{names[i]}"
            _write(folder / FOLDER / name, curves(one.jobs))


def _write(directory: Path, points: Mapping[int, Mapping[str, Band]]) -> None:
    from bihm.records.logbook import Logbook  # likewise

    names = dict.fromkeys(name for line in points.values() for name in line)
    banded = [name for name in names if name.startswith(BANDED)]
    with contextlib.closing(Logbook(directory)) as book:
        book.bands(FOLDER, {name: (LOW + name, HIGH + name) for name in banded})
        for step, line in points.items():
            means = {name: band.mean for name, band in line.items()}
            book.evaluation(step, means.pop("epoch", 0.0), means.pop("seconds", 0.0), means)
            wide = {name: band for name, band in line.items() if name in banded}
            book.scalars(step, {LOW + name: band.mean - band.sd for name, band in wide.items()})
            book.scalars(step, {HIGH + name: band.mean + band.sd for name, band in wide.items()})


def _name(setting: Setting) -> str:
    """A folder's name; a dot, which is the folder itself, where there is one setting alone."""
    text = ",".join(f"{key}={value}" for key, value in setting.values.items())
    return re.sub(r"[^A-Za-z0-9=,.+_-]+", "_", text)[:200] or "."


def _points(path: Path) -> dict[int, dict[str, float]]:
    """The finite numbers of each step; of a damaged or missing file what is whole."""
    found: dict[int, dict[str, float]] = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                content = json.loads(line)
                found[int(content["step"])] = {
                    key: float(value)
                    for key, value in content.items()
                    if key != "step" and type(value) in (int, float) and math.isfinite(value)
                }
    return found
