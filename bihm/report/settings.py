"""Runs that differ only in their seed belong together; what else differs was swept, and had an effect."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bihm.config import MACHINE_KEYS, Config, flatten
from bihm.machine.layer_sizes import layer_sizes
from bihm.records import seeds
from bihm.report.files import RunFiles

# What makes no other setting of a run: its seed, and when it has to end.
NOT_A_SETTING = ("seed", "max_seconds", *MACHINE_KEYS)
FOLLOWS = ("dataset.n_features", "dataset.image_shape")  # from the dataset
SCORES = ("valid.log_p_star", "valid.log_p", "valid.parzen")  # what a sweep is compared by
MOST_LEVELS, PARTS = 8, 4  # of a key with numbers: more values than that are put into a few ranges

KEYS = tuple(flatten(Config()))


class Setting(NamedTuple):
    """Runs that differ only in their seed, and what tells them from the others."""

    label: str
    runs: list[RunFiles]


class Level(NamedTuple):
    """The runs in which a swept key has one value."""

    value: str
    runs: int
    mean: float  # over these runs, whatever else differs among them
    sem: float | None  # its standard error; of one run nobody knows it
    effect: float  # the mean less the mean over all runs


class Effect(NamedTuple):
    """What a swept key does to the score."""

    key: str
    levels: list[Level]
    balanced: bool  # each value meets the same combinations of the other keys

    @property
    def spread(self) -> float:
        """The best level less the worst, nats."""
        means = [level.mean for level in self.levels]
        return max(means) - min(means)


def short(key: str) -> str:
    """A key as one types it: model, not model.name."""
    return key.removesuffix(".name")


def shown(value: Any) -> str:
    """A value of a key for a person."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)


def swept(runs: Sequence[RunFiles]) -> list[str]:
    """The keys in which runs differ; of keys that always change together, the first."""
    known = [run for run in runs if run.row.get("layers") is not None]
    keys: dict[tuple[int, ...], str] = {}
    for key in _candidates(known):
        values = [shown(run.row.get(key)) for run in known]
        order = {value: i for i, value in enumerate(dict.fromkeys(values))}
        if len(order) > 1:
            keys.setdefault(tuple(order[value] for value in values), key)
    return list(keys.values())


def _candidates(runs: Iterable[RunFiles]) -> list[str]:
    """Keys that may have been swept. Sizes of layers follow from the depth, or the depth from them."""
    by_rule = all(
        run.row["layers"] == layer_sizes(run.row["depth"], run.row["dataset.n_features"])
        for run in runs
    )
    followers = {*FOLLOWS, "layers" if by_rule else "depth", *NOT_A_SETTING[1:]}
    return [key for key in KEYS if key not in followers]


def settings(runs: Sequence[RunFiles]) -> list[Setting]:
    """Put runs together that differ only in their seed, in the order in which they come.

    A run without a configuration is a setting of its own. A run that was made twice counts once:
    the one that finished, or the first.
    """
    own = ["seed", *(key for key in KEYS if key not in NOT_A_SETTING)]
    known = [run for run in runs if run.row["layers"] is not None]
    finished_first = sorted(known, key=lambda run: run.row["status"] != "finished")
    configs = {run.directory: {key: run.row[key] for key in own} for run in finished_first}
    once = {job for group in seeds.settings(configs) for job in group.jobs}
    of = {run.directory: run for run in known if run.directory in once}
    found = seeds.settings({job: configs[job] for job in of})
    groups = [[of[job] for job in group.jobs] for group in found]
    groups += [[run] for run in runs if run.row["layers"] is None]
    keys = [key for key in swept(runs) if key != "seed"]
    return [Setting(_label(group, keys), group) for group in groups]


def _label(group: Sequence[RunFiles], keys: Sequence[str]) -> str:
    row = group[0].row
    if row.get("layers") is None:
        return group[0].label
    parts = [f"{short(key)}={shown(row.get(key))}" for key in keys]
    return ", ".join(parts) or group[0].text("model.name")


def by_dataset(runs: Sequence[RunFiles]) -> dict[str, list[RunFiles]]:
    """Runs of one dataset each, by its name, or its file's: nats of different data do not compare.

    One whose configuration is damaged is in none, unless there is no other.
    """
    found: dict[str, list[RunFiles]] = {}
    for run in runs:
        name = run.row.get("dataset.path") or run.row.get("dataset.name")
        if name is not None:
            found.setdefault(str(name), []).append(run)
    return found or {"": list(runs)}


def score_of(runs: Sequence[RunFiles]) -> str:
    """The number on valid that most runs have, the model's own likelihood before others."""
    counts = {name: sum(run.number(name) is not None for run in runs) for name in SCORES}
    return max(SCORES, key=lambda name: counts[name])  # of equal ones the first


def main_effects(runs: Sequence[RunFiles], score: str) -> list[Effect]:
    """The mean score at each value of each swept key, over all that else differs; largest spread first."""
    once = [run for group in settings(runs) for run in group.runs if run.row["layers"] is not None]
    known = [run for run in once if run.number(score) is not None]
    keys = swept(known)
    effects = [_effect(key, keys, known, score) for key in keys]
    return sorted(effects, key=lambda effect: (effect.key == "seed", -effect.spread))


def _effect(key: str, keys: Sequence[str], runs: Sequence[RunFiles], score: str) -> Effect:
    value_of = _grouping([run.row.get(key) for run in runs])
    groups: dict[str, list[RunFiles]] = {}
    for run in sorted(runs, key=lambda run: _order(run.row.get(key))):
        groups.setdefault(value_of(run.row.get(key)), []).append(run)
    everything = np.mean([run.number(score) for run in runs])
    levels = []
    for value, group in groups.items():
        scores = np.array([run.number(score) for run in group], np.float64)
        mean, count = float(scores.mean()), len(group)
        sem = float(scores.std(ddof=1) / math.sqrt(count)) if count > 1 else None
        levels.append(Level(value, count, mean, sem, mean - float(everything)))
    others = [other for other in keys if other != key]
    met = [
        sorted(repr([run.row.get(other) for other in others]) for run in group)
        for group in groups.values()
    ]
    return Effect(key, levels, all(one == met[0] for one in met))


def _grouping(values: Sequence[Any]) -> Callable[[Any], str]:
    """How values are shown: themselves, or ranges with equally many runs where numbers are many."""
    distinct = set(map(shown, values))
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(distinct) <= MOST_LEVELS or len(numbers) < len(values):
        return shown
    ordered = sorted(set(numbers))
    parts = np.array_split(np.array(ordered, object), PARTS)
    names = {v: f"{shown(part[0])} to {shown(part[-1])}" for part in parts for v in part}
    return lambda value: names[value]


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, shown(value)
