"""Sums of what the training steps report, and the alarm when a number is not finite."""

from collections.abc import Mapping

import jax
import numpy as np

from bihm.errors import NumbersError
from bihm.kernels.packing import pieces
from bihm.machine.family import Limit
from bihm.machine.machine import Params, parameter_names
from bihm.machine.training_step import ChunkInfo


class StepSums:
    """Sums over the steps since the last evaluation; plain numbers, so that a checkpoint can hold them."""

    def __init__(
        self,
        params: Params,
        totals: dict[str, float],
        steps: int,
        limits: Mapping[str, Limit] | None = None,
    ):
        self.parameter_names = parameter_names(params)
        self._sizes = [leaf.size for leaf in jax.tree.leaves(params)]
        self.totals = dict(totals)
        self.steps = steps
        self._limits = limits or {}
        self._pending: tuple[int, ChunkInfo] | None = None

    def add(self, first_step: int, info: ChunkInfo) -> None:
        """Take a chunk's numbers, and look at those of the chunk before.

        One chunk late, so that the device works on the next one while Python looks.

        Raises:
            NumbersError: a loss, an estimate or a gradient norm of the chunk before is not finite, or above
                its limit.
        """
        self.settle()
        self._pending = (first_step, info)

    def settle(self) -> None:
        """Look at the chunk that is still waiting; waits for the device."""
        if self._pending is None:
            return
        (first_step, info), self._pending = self._pending, None
        columns = self._columns(info)
        for name, column in columns.items():
            finite = np.isfinite(column)
            if not finite.all():
                bad = int(np.argmin(finite))
                raise NumbersError(f"{name} is {column[bad]} at step {first_step + bad + 1}")
            self._check_limit(name, column, first_step)
            self.totals[name] = self.totals.get(name, 0.0) + float(column.sum())
        steps = len(columns["train/loss"])
        self.steps += steps
        # In numpy: compiled, these fifty sums would be a sixth of a step's compilation.
        grads = pieces(jax.device_get(info.last_grads), self._sizes)
        for parameter, grad in zip(self.parameter_names, grads, strict=True):
            name, norm = f"grad_norm/{parameter}", float(np.linalg.norm(grad.astype(np.float64)))
            self.totals[name] = self.totals.get(name, 0.0) + steps * norm

    def take(self) -> dict[str, float]:
        """Return the means over the steps since the last call, and start anew."""
        self.settle()
        means = {name: total / self.steps for name, total in self.totals.items()}
        self.totals, self.steps = {}, 0
        return means

    def _check_limit(self, name: str, column: np.ndarray, first_step: int) -> None:
        limit = self._limits.get(name.removeprefix("train/"))
        if limit is not None and (column > limit.most).any():
            bad = int(np.argmax(column > limit.most))
            raise NumbersError(
                f"{name} is {column[bad]:.4g} at step {first_step + bad + 1}, above {limit.most:.4g}: "
                f"{limit.meaning}"
            )

    def _columns(self, info: ChunkInfo) -> dict[str, np.ndarray]:
        """The per-step numbers; a gradient that is not finite shows in its norm."""
        columns = {"train/loss": info.steps.loss, "train/grad_norm": info.steps.grad_norm}
        for name, column in info.steps.estimates._asdict().items():
            columns[f"train/{name}"] = column
        return {name: np.asarray(column, np.float64) for name, column in columns.items()}
