"""A mixture of trained machines, sum_m w_m p_m(x), with weights that are fitted on valid."""

import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bihm.data import Dataset, is_pinned
from bihm.errors import ConfigError
from bihm.machine.family import Report, silent
from bihm.machine.likelihood import Estimates
from bihm.run.arguments import MOST_SAMPLES, check_split, whole
from bihm.run.estimates.estimate_files import name_of
from bihm.run.trained import TrainedMachine
from bihm.run.training.own_rows import own_dataset

ROUNDS = 10_000  # of EM, at most
ENOUGH = 1e-9  # nats a row: EM ends where a round gains less


class Mixture:
    """Several machines of one dataset as one model: what `bihm.mixture` returns.

        log p(x) = log sum_m w_m p_m(x)

    machines   the trained machines
    weights    w_m, (machines,), of 1000 samples: they sum to one; `weights_at(K)` those of others

    Weights are fitted on the valid rows by EM, on first use, with the K of the estimates that they mix.

    p_m(x) is the importance estimate of machine m from its own seed, so the sum is one of unbiased
    estimates, and log p(x) in the mean a lower bound, as for one machine. Every machine, BiHM's too, counts
    with its p, and keeps its numbers of bihm-eval.
    """

    def __init__(self, machines: Sequence[TrainedMachine]) -> None:
        check_one_dataset(machines)
        self.machines = list(machines)
        self._weights: dict[int, np.ndarray] = {}  # by K

    def __repr__(self) -> str:
        return f"<mixture of {', '.join(map(repr, self.machines))}>"

    @property
    def weights(self) -> np.ndarray:
        """w_m, (machines,), float64, with 1000 samples."""
        return self.weights_at()

    def weights_at(self, K: int = 1000) -> np.ndarray:
        """w_m, (machines,), float64, fitted with K samples on the valid rows of the dataset, once."""
        samples = whole("K", K, 1, MOST_SAMPLES)
        if samples not in self._weights:
            rows = self.machines[0].rows("valid")
            each = log_p_of(self.estimates(rows, samples, split="valid"))
            self._weights[samples] = fit_weights(each)
        return self._weights[samples].copy()  # theirs to change, and the model stays what it is

    def log_p_each(self, x: ArrayLike, K: int = 1000, *, split: str = "test") -> np.ndarray:
        """log p_m(x) of every machine and row, (machines, rows), nats."""
        return log_p_of(self.estimates(x, K, split=split))

    def log_p(self, x: ArrayLike, K: int = 1000, *, split: str = "test") -> np.ndarray:
        """log sum_m w_m p_m(x) of every row, (rows,), nats."""
        each = self.log_p_each(x, K, split=split)  # which checks K and x
        return mix(self.weights_at(K), each)

    def estimates(
        self, x: ArrayLike, K: int = 1000, *, split: str = "test", report: Report = silent
    ) -> list[Estimates]:
        """The estimates of every machine: see `TrainedMachine.estimates`."""
        check_split(split)
        return [machine.estimates(x, K, split=split, report=report) for machine in self.machines]


def log_p_of(each: Sequence[Estimates]) -> np.ndarray:
    """log p_m(x) of every machine and row, (machines, rows)."""
    return np.stack([one.log_p for one in each])


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
    for machine in machines:
        if not machine.family.has_likelihood:
            name, model = name_of(machine), machine.config.model.name
            raise ConfigError(
                f"{name} is of model={model}, which has no log p to mix: leave it out"
            )
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
    return own_dataset(machine.config, machine.stem, machine.exported_rows, "leave that run out")


def _same_rows(one: Dataset | None, other: Dataset | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(
        (one.train, one.valid, one.test), (other.train, other.valid, other.test), strict=True
    )
    return all(np.array_equal(x, y) for x, y in pairs)
