"""What a family of models owes the runner: the Helmholtz machines are one, target propagation another.

Loop, checkpoints, logbook, sweeps, export and samples know a family through these members alone; who
estimates a likelihood asks `has_likelihood` first. A machine is an `nnx.Module` with float32 parameters,
which `split` of `bihm.machine.machine` takes apart. A family is made of a configuration
(`bihm/run/families/choice.py`) and keeps no state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from flax import nnx

from bihm.machine.machine import Params, Structure
from bihm.types import AnyArray, Array, Float, PRNGKey, Rows

Report = Callable[
    [int, int], None
]  # told how many of how many parts are done; may raise Interrupted
Rule = Callable[..., tuple[Array, Any]]  # of (key, machine, x, updates done): loss, Info


def silent(done: int, total: int) -> None:
    """A `Report` for whoever does not care."""
    del done, total


class Keys(NamedTuple):
    """One stream of random numbers for each use, all from the seed of a run."""

    train: PRNGKey
    valid: PRNGKey
    test: PRNGKey
    log_z: PRNGKey
    pictures: PRNGKey
    sandwich: PRNGKey
    given: PRNGKey


class Limit(NamedTuple):
    """The largest mean over a batch that a number of a step may have, and what a larger one means."""

    most: float
    meaning: str


class Image(NamedTuple):
    """Rows to be drawn as images: values in [0, 1], or weights of either sign."""

    tag: str
    rows: np.ndarray
    weights: bool = False


class Distributions(NamedTuple):
    """What a person wants to see of any machine beside its estimates, by tag."""

    histograms: Mapping[str, np.ndarray]
    scalars: Mapping[str, float]
    words: str = ""  # the same as one line of a log, if it is worth one


@runtime_checkable
class Family(Protocol):
    """A family of models with the options of one configuration."""

    @property
    def score(self) -> str:
        """The estimate on valid that early stopping watches, higher is better, as `log_p`."""

    @property
    def limits(self) -> Mapping[str, Limit]:
        """Fields of Info whose means over a batch must stay below a limit, or the run ends."""

    @property
    def has_likelihood(self) -> bool:
        """Whether log p(x) of bits can be estimated by samples of q."""

    def describe(self, K: Sequence[int]) -> str:
        """Its options in a few words for the first line of a run; K of each phase."""

    @property
    def final_words(self) -> str:
        """What of the final estimates a person should know while they are made, as `, K=1000,`."""

    def check_draws(self, K: Sequence[int]) -> None:
        """ConfigError for steps that need more random numbers than a key has; K of each phase."""

    def machine(self, visible_mean: AnyArray | None) -> nnx.Module:
        """The machine with its initial parameters; the same ones each time."""

    def rule(self, K: int, steps_per_epoch: int) -> Rule:
        """What gives the loss of a batch, whose gradient is the update with its sign turned, and an Info.

        Info is a NamedTuple whose fields have a number for each row.
        """

    def see(self, key: PRNGKey, rows: Rows, grey: bool) -> Float[Array, "rows visible"]:
        """What a training step sees of stored rows; compiled with it."""

    def fixed_rows(self, rows: np.ndarray, split: str, grey: bool) -> np.ndarray:
        """What estimates see of the stored rows of a split."""

    def check(self, rows: np.ndarray, name: str) -> np.ndarray:
        """Rows of somebody else's as estimates see them; DataError where they are none."""

    def fit(
        self, structure: Structure, params: Params, rows: AnyArray, grey: bool, report: Report
    ) -> Params:
        """Parameters with those set that follow from the stored training rows without gradients."""

    def step_cost(self, K: int) -> float:
        """What a training step costs for each row, in units of the family's own."""

    def estimate_cost(self, rows: int) -> float:
        """What `estimate` costs on so many rows, in the same units."""

    def estimate(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, report: Report
    ) -> dict[str, float]:
        """The numbers of an evaluation on the fixed rows of valid, the score among them: `valid/..`."""

    def results(
        self,
        keys: Keys,
        structure: Structure,
        params: Params,
        rows: Callable[[str], np.ndarray],
        report: Report,
    ) -> dict[str, dict[str, Any]]:
        """The final numbers of the best state: blocks of `results.json`, among them `test` and `valid`."""

    def references(
        self, mean: Float[np.ndarray, " visible"], rows: np.ndarray
    ) -> tuple[float, float]:
        """Two scores on these rows: of independent bits with this mean, about which training has a plateau,
        and that below which weights are broken; minus infinity where there is no such thing.
        """

    def pictures(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> list[Image]:
        """What a person wants to see of a machine of images, with `rows` of valid.

        Unless `whole`, only what is quickly compiled.
        """

    def distributions(
        self, keys: Keys, structure: Structure, params: Params, rows: np.ndarray, whole: bool
    ) -> Distributions:
        """How its numbers are spread over rows and layers; `rows` are those of valid; `whole` as above."""

    def densities(
        self,
        keys: Keys,
        structure: Structure,
        params: Params,
        rows: Callable[[str], np.ndarray],
        splits: Sequence[str],
        samples: int,
        report: Report,
    ) -> dict[str, dict[str, Any]]:
        """Parzen estimates on rows in [0, 1] of each split, from means of pixels: they compare families."""

    def settle(self, options: Any, completing: bool) -> Any:
        """Options with what is left open filled in; ConfigError for what makes no sense."""

    def draw(
        self, structure: Structure, params: Params, options: Any, given: Any, report: Report
    ) -> Any:
        """Samples as settled options say, or completions of given rows."""
