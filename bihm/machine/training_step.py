"""The learner: what a training step is, and a compiled chunk of them.

The rule itself is in `rules.py`; here are the optimiser, the minibatches and the loop around them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bihm.kernels.compiled import fast_jit
from bihm.kernels.numerics import euclidean_norm
from bihm.kernels.packing import Packed, pack
from bihm.kernels.products import products_in
from bihm.machine.machine import Params, Structure, bind
from bihm.machine.rules import Info, Rule
from bihm.types import Array, Bits, Float, PRNGKey, Rows

Unpack = Callable[[Packed], Params]


class TrainState(NamedTuple):
    """All that the next step needs, besides the configuration."""

    params: Params
    opt_state: optax.OptState  # of the parameters as `pack` has them
    average: Params  # exponential average of the parameters; None when it is off
    step: Array  # steps done since the start, int32


class StepInfo(NamedTuple):
    """What an observer wants of each step; a chunk stacks them along a leading axis."""

    loss: Float[Array, "..."]
    grad_norm: Float[Array, "..."]  # Euclidean, of the whole gradient, before clipping
    estimates: Info  # means over the batch


class ChunkInfo(NamedTuple):
    """What an observer wants of a chunk."""

    steps: StepInfo
    last_grads: Packed  # the gradient at the last step


class Rates(NamedTuple):
    """The learning rate of a phase: from `start` to `end` along half a cosine over `steps` steps."""

    start: Array
    end: Array  # equal to `start`: constant
    first_step: Array
    steps: Array

    @classmethod
    def of(cls, start: float, end: float, first_step: int, steps: int) -> "Rates":
        """Numbers as arrays, so that other numbers do not mean another compilation."""
        lrs = np.asarray([start, end], np.float32)
        counts = np.asarray([first_step, steps], np.int32)
        return cls(*jax.device_put((*lrs, *counts)))


def learning_rate(rates: Rates, step: Array) -> Array:
    """end + (start - end) (1 + cos(pi t)) / 2 with t in [0, 1] the part of the phase that is done."""
    t = jnp.clip((step - rates.first_step) / rates.steps, 0, 1)
    return rates.end + (rates.start - rates.end) * (1 + jnp.cos(jnp.pi * t)) / 2


def penalise(grads: Params, params: Params, l1: float, l2: float) -> Params:
    """Add the gradient of `l1 sum|W| + l2 sum W^2` over the weights; biases (vectors) stay free.

    The loss is a mean over the batch, and the penalty is added to that mean.
    """
    if not l1 and not l2:
        return grads
    return jax.tree.map(
        lambda g, w: g + l1 * jnp.sign(w) + 2 * l2 * w if w.ndim > 1 else g, grads, params
    )


class Optimizer(NamedTuple):
    """What turns a gradient into a step."""

    transform: optax.GradientTransformation  # for a rate of one, on packed parameters
    l1: float
    l2: float
    average: float | None  # decay of the exponential average of the parameters


def make_optimizer(
    name: str, *, clip: float | None, l1: float, l2: float, average: float | None = None
) -> Optimizer:
    """Build the optimiser called `optim.name`; the chunk multiplies its steps by the learning rate."""
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    if name == "adam":
        parts.append(optax.scale_by_adam())
    return Optimizer(optax.chain(*parts, optax.scale(-1.0)), l1, l2, average)


def init_state(params: Params, optimizer: Optimizer) -> TrainState:
    """Start from `params`; the average, if there is one, starts there too."""

    @jax.jit  # one small program, not dozens
    def rest(params: Params) -> tuple[optax.OptState, Params, Array]:
        average = None if optimizer.average is None else jax.tree.map(jnp.copy, params)
        return optimizer.transform.init(pack(params)[0]), average, jnp.zeros((), jnp.int32)

    return TrainState(params, *rest(params))


def binarise(key: PRNGKey, rows: Rows, grey: bool) -> Bits[Array, "rows visible"]:
    """Turn stored rows into bits; grey levels are drawn anew, P(x_i = 1) = level / 255."""
    if not grey:
        return rows.astype(jnp.float32)
    noise = jax.random.uniform(key, rows.shape, jnp.float32)
    return (noise * 255 < rows.astype(jnp.float32)).astype(jnp.float32)


def epoch_order(key: PRNGKey, rows: int) -> Array:
    """A random order of the rows, by one sort.

    `jax.random.permutation` sorts twice, so that not even a tie of two 32-bit numbers favours a row.
    """
    return jnp.argsort(jax.random.bits(key, (rows,), jnp.uint32))


def take_batch(
    key: PRNGKey, rows: Rows, order: Array, index: Array, batch_size: int, grey: bool
) -> Bits[Array, "batch visible"]:
    """Minibatch number `index` of an epoch; the last ones start over at the front of the epoch's order."""
    picked = (index * batch_size + jnp.arange(batch_size)) % rows.shape[0]
    return binarise(key, rows[order[picked]], grey)


Chunk = Callable[[TrainState, PRNGKey, Rows, Rates], tuple[TrainState, ChunkInfo]]


class ChunkPlan(NamedTuple):
    """How an epoch is cut: `chunks` compiled calls of `length` steps each."""

    chunks: int
    length: int

    @property
    def steps_per_epoch(self) -> int:
        return self.chunks * self.length


def plan_epoch(rows: int, batch_size: int, longest: int) -> ChunkPlan:
    """Cut an epoch into equal chunks of at most `longest` steps.

    Every row is seen at least once an epoch. Where batches or chunks do not divide evenly, the last
    steps take rows from the front of the epoch's own random order again: no row is dropped, and all
    batches are full.
    """
    batches = -(-rows // batch_size)
    chunks = -(-batches // longest)
    return ChunkPlan(chunks, -(-batches // chunks))


class PackedState(NamedTuple):
    """A `TrainState` while its chunk runs, and the last gradient, for the observer."""

    params: Packed
    opt_state: optax.OptState
    average: Packed | None
    step: Array
    grads: Packed


def train_step(
    state: PackedState,
    x: Bits[Array, "batch visible"],
    key: PRNGKey,
    rate: Array,
    *,
    structure: Structure,
    unpack: Unpack,
    rule: Rule,
    optimizer: Optimizer,
) -> tuple[PackedState, StepInfo]:
    """One update: the gradient of the rule's loss, penalties, optimiser, learning rate, average."""
    params = unpack(state.params)

    def loss_of(params: Params) -> tuple[Array, Info]:
        return rule(key, bind(structure, params), x)

    (loss, info), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    packed, _ = pack(penalise(grads, params, optimizer.l1, optimizer.l2))
    direction, opt_state = optimizer.transform.update(packed, state.opt_state, state.params)
    moved = [w + rate * d for w, d in zip(state.params, direction, strict=True)]
    average = _move_average(state.average, moved, optimizer.average)
    new = PackedState(moved, opt_state, average, state.step + 1, packed)
    return new, StepInfo(loss, euclidean_norm(packed), jax.tree.map(jnp.mean, info))


def make_chunk(
    structure: Structure,
    rule: Rule,
    optimizer: Optimizer,
    plan: ChunkPlan,
    *,
    batch_size: int,
    grey: bool,
    precision: str = "f32",
) -> Chunk:
    """Compile `plan.length` training steps into one call that donates its state.

    `precision` is that of the rule's matrix products, as `products_in` takes it.

    All randomness is folded from the key and the step number, so a run goes on after an
    interruption as if there had been none.
    """

    @partial(fast_jit, donate_argnums=0)
    def chunk(
        state: TrainState, key: PRNGKey, rows: Rows, rates: Rates
    ) -> tuple[TrainState, ChunkInfo]:
        step_key, order_key = jax.random.split(key)
        epoch = state.step // plan.steps_per_epoch
        order = epoch_order(jax.random.fold_in(order_key, epoch), rows.shape[0])
        packed, unpack = pack(state.params)
        step = partial(
            train_step,
            structure=structure,
            unpack=unpack,
            rule=rule,
            optimizer=optimizer,
        )

        def body(state: PackedState, _: None) -> tuple[PackedState, StepInfo]:
            data_key, rule_key = jax.random.split(jax.random.fold_in(step_key, state.step))
            index = state.step % plan.steps_per_epoch
            x = take_batch(data_key, rows, order, index, batch_size, grey)
            with products_in(precision):
                return step(state, x, rule_key, learning_rate(rates, state.step))

        average = None if state.average is None else pack(state.average)[0]
        nothing = [jnp.zeros_like(w) for w in packed]
        start = PackedState(packed, state.opt_state, average, state.step, nothing)
        end, steps = jax.lax.scan(body, start, length=plan.length)
        average = None if end.average is None else unpack(end.average)
        new = TrainState(unpack(end.params), end.opt_state, average, end.step)
        return new, ChunkInfo(steps, end.grads)

    return chunk


def _move_average(average: Packed | None, params: Packed, decay: float | None) -> Packed | None:
    if average is None or decay is None:
        return None
    return [decay * a + (1 - decay) * w for a, w in zip(average, params, strict=True)]


def evaluated_params(state: TrainState) -> Params:
    """The parameters that estimates are made of: the average where there is one."""
    return state.params if state.average is None else state.average
