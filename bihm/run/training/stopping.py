"""What ends a run: epochs, patience, time; and what its scores say: on the plateau, or broken.

With small initial weights every rule starts on a plateau: no unit tells another anything yet, and the
score, a mean over the rows of valid in nats, is that of independent bits. Patience is for what comes after,
and after a warm-up, whose weights are not those of the score.
"""

import logging
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from bihm.errors import NumbersError
from bihm.run.build import Phase, Run, phases

# The plateau is about the score of independent bits: from twice as bad to clearly better.
TOP, BOTTOM = 0.99, 2.0
LITTLE = (
    -0.1
)  # nats a row: above it there is next to nothing to learn, as of columns that hardly change

log = logging.getLogger("bihm")


@dataclass
class Memory:
    """What the loop knows besides the states; JSON, so that it is saved with them."""

    phase: int = 0
    phase_step: int = 0  # the step at which the phase began
    best_score: float | None = None
    best_epoch: int = 0
    evaluated_step: int = 0
    eval_every: int = 0  # epochs; a run that is given more epochs or patience later keeps it
    seconds: float = 0.0
    stopped_by: str = ""
    totals: dict[str, float] = field(default_factory=dict)  # of the step sums
    steps: int = 0  # of the step sums


class Stopping(NamedTuple):
    """The limits of a run, and the scores (nats a row of valid) that its best one is compared with."""

    phases: list[Phase]
    max_seconds: float | None
    steps_per_epoch: int
    score: str  # what is compared: the family's own
    independent: float  # independent bits with the means of the training rows
    broken: float  # below this, after training, the weights are broken
    warm_up: int  # epochs

    @classmethod
    def of(cls, run: Run, valid_rows: np.ndarray) -> "Stopping":
        """Those of a run whose score is estimated on `valid_rows`."""
        independent, broken = run.family.references(run.dataset.train_mean, valid_rows)
        return cls(
            phases(run.config),
            run.config.max_seconds,
            run.plan.steps_per_epoch,
            run.score,
            independent,
            broken,
            run.config.model.warm_up or 0,
        )

    def out_of_patience(self, memory: Memory, step: int) -> bool:
        """Whether as many epochs as its patience have brought a phase nothing better.

        On the plateau and in a warm-up none of them counts: waiting there says nothing of what follows.
        """
        patience, best = self.phases[memory.phase].patience, memory.best_score
        if patience is None or best is None or self.on_plateau(best):
            return False
        epoch, first_epoch = step // self.steps_per_epoch, memory.phase_step // self.steps_per_epoch
        return epoch - max(memory.best_epoch, first_epoch, self.warm_up) >= patience

    @property
    def top(self) -> float:
        """Above this a score is no longer that of independent bits."""
        return min(TOP * self.independent, LITTLE)

    def on_plateau(self, score: float) -> bool:
        """Whether a score is about that of independent bits."""
        return BOTTOM * self.independent <= score <= self.top

    def may_go_on(self, memory: Memory, step: int) -> bool:
        """Whether what ended a run, when it was saved, has been raised since."""
        done = (step - memory.phase_step) // self.steps_per_epoch
        match memory.stopped_by:
            case "epochs":
                return done < self.phases[memory.phase].epochs
            case "patience":
                return not self.out_of_patience(memory, step)
            case "max_seconds":
                return self.max_seconds is None or memory.seconds <= self.max_seconds
        return False

    def check_end(self, memory: Memory) -> None:
        """Warn of a run that ends no better than independent bits.

        Raises:
            NumbersError: its best score is that of broken weights.
        """
        best = memory.best_score
        if best is None or best > self.top:
            return
        if best < self.broken:
            raise NumbersError(
                f"the best valid/{self.score} is {best:.4g} nats, below {self.broken:.0f}, which "
                "no machine has that learns: its weights are broken"
            )
        if self.on_plateau(best):
            where, advice = (
                "not clearly above",
                "more epochs or a larger optim.lr may leave this plateau",
            )
        else:
            where, advice = "far below", "a smaller optim.lr, optim.clip=10 or more epochs may help"
        log.warning(
            "the best valid %s, %.3f, is %s that of independent bits, %.3f: the units have learnt little "
            "of each other; %s",
            self.score,
            best,
            where,
            self.independent,
            advice,
        )
