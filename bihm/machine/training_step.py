"""What a training step is, and a compiled chunk of them; the rule itself is in `rules.py`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from bihm.kernels.compiled import fast_jit
from bihm.kernels.numerics import euclidean_norm
from bihm.kernels.packing import Packed, pack
from bihm.kernels.products import products_in
from bihm.kernels.spread import mean_over_parts, spread_rows
from bihm.machine.family import Rule
from bihm.machine.machine import Params, Structure, merge
from bihm.machine.minibatches import (
    ChunkPlan,
    See,
    binarise,
    epoch_order,
    mean_row,
    soften,
    take_batch,
)
from bihm.machine.optimizer import Optimizer, Rates, learning_rate, move_average, penalise
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
    estimates: Any  # the Info of the rule: means over the batch


class ChunkInfo(NamedTuple):
    """What an observer wants of a chunk."""

    steps: StepInfo
    last_grads: Packed  # the gradient at the last step


def init_state(params: Params, optimizer: Optimizer) -> TrainState:
    """Start from `params`; the average, if there is one, starts there too."""

    @jax.jit  # one small program, not dozens
    def rest(params: Params) -> tuple[optax.OptState, Params, Array]:
        average = None if optimizer.average is None else jax.tree.map(jnp.copy, params)
        return optimizer.transform.init(pack(params)[0]), average, jnp.zeros((), jnp.int32)

    return TrainState(params, *rest(params))


Chunk = Callable[[TrainState, PRNGKey, Rows, Rates], tuple[TrainState, ChunkInfo]]


class PackedState(NamedTuple):
    """A `TrainState` while its chunk runs, and the last gradient, for the observer."""

    params: Packed
    opt_state: optax.OptState
    average: Packed | None
    step: Array
    grads: Packed


def _pack_state(state: TrainState) -> tuple[PackedState, Unpack]:
    """The state as a chunk carries it, with no gradient yet, and what unpacks parameters again."""
    packed, unpack = pack(state.params)
    average = None if state.average is None else pack(state.average)[0]
    nothing = [jnp.zeros_like(w) for w in packed]
    return PackedState(packed, state.opt_state, average, state.step, nothing), unpack


def _unpack_state(state: PackedState, unpack: Unpack) -> TrainState:
    average = None if state.average is None else unpack(state.average)
    return TrainState(unpack(state.params), state.opt_state, average, state.step)


def train_step(
    state: PackedState,
    x: Bits[Array, "batch visible"],
    key: PRNGKey,
    rates: Rates,
    *,
    structure: Structure,
    unpack: Unpack,
    rule: Rule,
    optimizer: Optimizer,
) -> tuple[PackedState, StepInfo]:
    """One update: the gradient of the rule's loss, penalties, optimiser, learning rate, average."""
    params = unpack(state.params)

    def loss_of(params: Params) -> tuple[Array, Any]:
        return rule(key, merge(structure, params), x, state.step)

    (loss, info), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    if optimizer.penalised:
        grads = penalise(grads, params, rates.l1, rates.l2)
    packed, _ = pack(grads)
    packed, loss, info = mean_over_parts((packed, loss, info))
    rate = learning_rate(rates, state.step)
    direction, opt_state = optimizer.transform.update(packed, state.opt_state, state.params)
    moved = [w + rate * d for w, d in zip(state.params, direction, strict=True)]
    average = move_average(state.average, moved, optimizer.average)
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
    see: See = binarise,
    softened: float = 0.0,
    mesh: Mesh | None = None,
) -> Chunk:
    """Compile `plan.length` training steps into one call that donates its state.

    `precision` is that of the rule's matrix products, as `products_in` takes it; `see` says what a step
    sees of stored rows, whose bits are then `softened` by that share, as `soften` does. With a `mesh`, on
    all devices of which the state is, the rows of each batch are spread over them; random numbers and
    gradients are those of the whole batch.

    All randomness is folded from the key and the step number, so a run goes on after an
    interruption as if there had been none.
    """

    def chunk(
        state: TrainState, key: PRNGKey, rows: Rows, rates: Rates
    ) -> tuple[TrainState, ChunkInfo]:
        step_key, order_key = jax.random.split(key)
        epoch = state.step // plan.steps_per_epoch
        order = epoch_order(jax.random.fold_in(order_key, epoch), rows.shape[0])
        mean = mean_row(rows, grey) if softened else None
        start, unpack = _pack_state(state)
        step = partial(
            train_step, structure=structure, unpack=unpack, rule=rule, optimizer=optimizer
        )

        def body(state: PackedState, _: None) -> tuple[PackedState, StepInfo]:
            data_key, rule_key = jax.random.split(jax.random.fold_in(step_key, state.step))
            index = state.step % plan.steps_per_epoch
            x = take_batch(data_key, rows, order, index, batch_size, grey, see)
            if mean is not None:
                x = soften(jax.random.fold_in(data_key, 1), x, mean, softened)
            with products_in(precision):
                return step(state, x, rule_key, rates)

        end, steps = jax.lax.scan(body, start, length=plan.length)
        return _unpack_state(end, unpack), ChunkInfo(steps, end.grads)

    return fast_jit(spread_rows(chunk, mesh), donate_argnums=0)


def evaluated_params(state: TrainState) -> Params:
    """The parameters that estimates are made of: the average where there is one."""
    return state.params if state.average is None else state.average


def with_evaluated(state: TrainState, params: Params) -> TrainState:
    """The state with these in the place of the parameters that estimates are made of."""
    if state.average is None:
        return state._replace(params=params)
    return state._replace(average=params)
