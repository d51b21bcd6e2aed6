"""A mixture of trained machines, sum_m w_m p_m(x), with weights that are fitted on valid."""

import contextlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bihm.data import Dataset, is_pinned
from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.machine.family import Report, silent
from bihm.machine.likelihood import check_meaning
from bihm.records.results import pair_of, plus_minus
from bihm.records.run_files import place, read_json
from bihm.run.arguments import check_split
from bihm.run.build import fixed_rows
from bihm.run.drawn_rows import draw_rows
from bihm.run.estimate_files import Extras, find_dataset, leave_files, tell_of_rows
from bihm.run.listener import NOBODY, Listener
from bihm.run.own_rows import own_dataset
from bihm.run.trained import TrainedMachine

ROUNDS = 10_000  # of EM, at most
ENOUGH = 1e-9  # nats a row: EM ends where a round gains less


class Mixture:
    """Several machines of one dataset as one model: what `bihm.mixture` returns.

        log p(x) = log sum_m w_m p_m(x)

    machines   the trained machines
    weights    w_m, (machines,): they sum to one, and are fitted on the valid rows by EM on first use

    p_m(x) is the importance estimate of machine m from its own seed, so the sum is one of unbiased
    estimates, and log p(x) in the mean a lower bound, as for one machine. Every machine, BiHM's too, counts
    with its p, and keeps its numbers of bihm-eval.
    """

    def __init__(self, machines: Sequence[TrainedMachine], K: int = 1000) -> None:
        check_one_dataset(machines)
        self.machines = list(machines)
        self._K = K
        self._weights: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"<mixture of {', '.join(map(repr, self.machines))}>"

    @property
    def weights(self) -> np.ndarray:
        """w_m, (machines,), float64; fitted on the valid rows of the machines' dataset, once."""
        if self._weights is None:
            rows = self.machines[0].rows("valid")
            self._weights = fit_weights(self._each(rows, self._K, "valid", silent))
        return self._weights

    def log_p_each(self, x: ArrayLike, K: int = 1000, *, split: str = "test") -> np.ndarray:
        """log p_m(x) of every machine and row, (machines, rows), nats."""
        return self._each(x, K, check_split(split), silent)

    def log_p(self, x: ArrayLike, K: int = 1000, *, split: str = "test") -> np.ndarray:
        """log sum_m w_m p_m(x) of every row, (rows,), nats."""
        return mix(self.weights, self.log_p_each(x, K, split=split))

    def _each(self, x: ArrayLike, K: int, split: str, report: Report) -> np.ndarray:
        return np.stack(
            [machine.estimates(x, K, split=split, report=report).log_p for machine in self.machines]
        )


def mix(weights: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """log sum_m w_m p_m(x) from log p_m(x), (machines, rows); a weight of 0 leaves its machine out."""
    with np.errstate(divide="ignore"):  # log 0
        return np.asarray(np.logaddexp.reduce(np.log(weights)[:, None] + log_p, axis=0))


def fit_weights(log_p: np.ndarray) -> np.ndarray:
    """The w that maximise the mean over rows of log sum_m w_m p_m(x), by EM from equal weights.

    w_m <- mean_n w_m p_m(x_n) / sum_j w_j p_j(x_n). The mean is concave in w, so this is the best there is.
    """
    weights = np.full(len(log_p), 1 / len(log_p))
    before = -math.inf
    for _ in range(ROUNDS):
        mixed = mix(weights, log_p)
        if mixed.mean() - before < ENOUGH:
            break
        before = float(mixed.mean())
        weights = weights * np.exp(log_p - mixed).mean(axis=1)
        weights /= weights.sum()  # of rounding
    return weights


def check_one_dataset(machines: Sequence[TrainedMachine]) -> None:
    """Refuse machines that were not trained on the same splits of the same data.

    Raises:
        ConfigError: they were not, or there are fewer than two, or one is there twice.
        DataError: a user's rows are not those that one of them began with.
    """
    if len(machines) < 2:
        raise ConfigError(f"a mixture needs two machines or more, got {len(machines)}")
    places = [os.path.realpath(name_of(machine)) for machine in machines]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise ConfigError(f"{twice} is given twice; a mixture needs machines that differ")
    first = machines[0]
    rows = _own_rows(first)
    for other in machines[1:]:
        a, b = first.config.dataset, other.config.dataset
        if a.name != b.name or not _same_rows(rows, _own_rows(other)):
            raise ConfigError(
                f"{name_of(first)} was trained on {a.path or a.name} and {name_of(other)} on "
                f"{b.path or b.name}; a mixture needs machines of the same splits of one dataset"
            )


def _own_rows(machine: TrainedMachine) -> Dataset | None:
    """The rows, which must be those that the machine's run began with; None where they are pinned."""
    own = machine.config.dataset
    if is_pinned(own.name, own.path):
        return None
    return own_dataset(machine.config, machine.stem, "leave that run out")


def _same_rows(one: Dataset | None, other: Dataset | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(
        (one.train, one.valid, one.test), (other.train, other.valid, other.test), strict=True
    )
    return all(np.array_equal(x, y) for x, y in pairs)


def name_of(machine: TrainedMachine) -> str:
    """The run directory or the weights file that a machine was read from."""
    return machine.stem[:-1]


def _file(
    machines: Sequence[TrainedMachine], what: dict[str, Any], name: str, out: str | None
) -> Path:
    """Where estimates go; not over those of another mixture, or of other rows."""
    default = Path(f"{machines[0].stem}eval-mixture-{name}.json")
    reads = [what["dataset"], *(machine.config.dataset.path for machine in machines)]
    path = place(out, default, ".json", beside=[".npz"], reads=reads, replaces=True)
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        there = read_json(path)
        if isinstance(there, dict) and _about(there) != _about(what):
            raise ConfigError(
                f"{path} holds other estimates than those of this mixture; choose another out="
            )
    return path


def _about(block: dict[str, Any]) -> list[Any]:
    """Of which machines and rows estimates are; a published block names its machines from its root."""
    machines = block.get("mixture_of")
    places = list(map(os.path.abspath, machines)) if isinstance(machines, list) else machines
    return [places, block.get("dataset"), block.get("cut")]


@disk_refusals()
def evaluate_mixture(
    machines: Sequence[TrainedMachine],
    *,
    split: str,
    K: int,
    dataset: str | None = None,
    count: int | None = None,
    per_example: bool = False,
    out: str | None = None,
    to: Listener = NOBODY,
) -> dict[str, Any]:
    """Estimate a mixture on a split, its weights fitted on the machines' own valid rows with the same K.

    Writes `eval-mixture-<split>-K<K>.json` into the first machine's directory, or to `out`, and with
    `per_example` a `.npz` beside it: `log_p`, (rows,), and `log_p_each`, (machines, rows). With `count`
    only so many rows are estimated, and so many of valid, drawn at random, always the same ones.

    Raises:
        ConfigError: machines of different data, or estimates of another mixture in the place of these, or
            not as many rows as asked for.
        DataError: data missing or damaged.
    """
    mixture = Mixture(machines, K)
    identity, found = find_dataset(machines[0], dataset)
    about = tell_of_rows(identity, found, split, to)
    drawn = draw_rows(fixed_rows(machines[0].family, found, split), count, split, to)
    fitted = machines[0].rows("valid")
    fitted = draw_rows(fitted, count and min(count, len(fitted)), "valid", to).rows
    places = [os.path.abspath(name_of(machine)) for machine in machines]
    what = {**about, **drawn.about, "mixture_of": places}
    file = _file(machines, what, f"{split}-K{K}{Extras(rows=count).name}", out)
    valid = mixture._each(fitted, K, "valid", to.report)
    weights = fit_weights(valid)
    own = split == "valid" and identity == machines[0].config.dataset.name
    each = valid if own else mixture._each(drawn.rows, K, split, to.report)
    result = mixture_block(weights, each, K)
    if own:
        to.say("the weights were fitted on these same rows: look at test for what they are worth")
    to.show(result)
    arrays = drawn.arrays | {"log_p": mix(weights, each), "log_p_each": each}
    block = {**what, "weights_fitted_on": "valid", **result}
    leave_files(file, block, arrays if per_example else {}, to)
    return result


def mixture_block(weights: np.ndarray, log_p: np.ndarray, K: int) -> dict[str, Any]:
    """The block of `results.json` for a mixture: marked as one, with the number of each machine.

    Raises:
        NumbersError: an estimate is not finite.
    """
    mixed = pair_of(mix(weights, log_p))
    check_meaning("the estimate of log_p", mixed["mean"])
    members = [
        {"weight": float(w), "log_p": pair_of(values)}
        for w, values in zip(weights, log_p, strict=True)
    ]
    return {
        "examples": log_p.shape[1],
        "K": K,
        "ensemble": True,
        "log_p": mixed,
        "members": members,
    }


def mixture_table(split: str, names: Sequence[str], block: dict[str, Any]) -> list[str]:
    """Lines for a person: the ensemble, then each of its machines with its weight."""
    lines = [
        f"{split:5s} {block['examples']} rows, K={block['K']}:  ensemble of {len(names)}, weights "
        f"fitted on valid:  log_p {plus_minus(block['log_p'])}"
    ]
    for name, member in zip(names, block["members"], strict=True):
        lines.append(f"  {member['weight']:.3f} of {name}:  log_p {plus_minus(member['log_p'])}")
    return lines
