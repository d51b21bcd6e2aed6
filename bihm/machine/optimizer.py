"""What turns a gradient into a step: the optimiser, its learning rate, penalties and the average."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bihm.kernels.packing import Packed
from bihm.machine.machine import Params
from bihm.types import Array


class Rates(NamedTuple):
    """The learning rate of a phase: from `start` to `end` along half a cosine over `steps` steps.

    And the penalties: arguments of a compiled step, so that runs which differ in them share one program.
    """

    start: Array
    end: Array  # equal to `start`: constant
    first_step: Array
    steps: Array
    l1: Array  # as `penalise` takes them
    l2: Array

    @classmethod
    def of(
        cls, start: float, end: float, first_step: int, steps: int, l1: float = 0.0, l2: float = 0.0
    ) -> "Rates":
        """Numbers as arrays, so that other numbers do not mean another compilation."""
        lrs, penalties = np.asarray([start, end], np.float32), np.asarray([l1, l2], np.float32)
        counts = np.asarray([first_step, steps], np.int32)
        return cls(*jax.device_put((*lrs, *counts, *penalties)))


def learning_rate(rates: Rates, step: Array) -> Array:
    """end + (start - end) (1 + cos(pi t)) / 2 with t in [0, 1] the part of the phase that is done."""
    t = jnp.clip((step - rates.first_step) / rates.steps, 0, 1)
    return rates.end + (rates.start - rates.end) * (1 + jnp.cos(jnp.pi * t)) / 2


def penalise(grads: Params, params: Params, l1: Array | float, l2: Array | float) -> Params:
    """Add the gradient of `l1 sum|W| + l2 sum W^2` over the weights; biases (vectors) stay free.

    The loss is a mean over the batch, and the penalty is added to that mean.
    """
    return jax.tree.map(
        lambda g, w: g + l1 * jnp.sign(w) + 2 * l2 * w if w.ndim > 1 else g, grads, params
    )


class Optimizer(NamedTuple):
    """What turns a gradient into a step."""

    transform: optax.GradientTransformation  # for a rate of one, on packed parameters
    penalised: bool  # by the l1 and l2 of `Rates`
    average: float | None  # decay of the exponential average of the parameters


@cache  # as `make_rule`
def make_optimizer(
    name: str, *, clip: float | None, penalised: bool = False, average: float | None = None
) -> Optimizer:
    """Build the optimiser called `optim.name`; the chunk multiplies its steps by the learning rate."""
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    if name == "adam":
        parts.append(optax.scale_by_adam())
    return Optimizer(optax.chain(*parts, optax.scale(-1.0)), penalised, average)


def move_average(average: Packed | None, params: Packed, decay: float | None) -> Packed | None:
    if average is None or decay is None:
        return None
    return [decay * a + (1 - decay) * w for a, w in zip(average, params, strict=True)]
