"""Which rows the steps of a run see, and in which order: read off the steps themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_machine import tiny_machine

from bihm.machine.machine import split
from bihm.machine.minibatches import (
    ChunkPlan,
    binarise,
    epoch_order,
    order_of,
    plan_epoch,
    soften,
    take_batch,
)
from bihm.machine.optimizer import Rates, make_optimizer
from bihm.machine.rules import Info
from bihm.machine.training_step import init_state, make_chunk

BITS = 4
NUMBERED = np.array([[n >> i & 1 for i in range(BITS)] for n in range(11)], np.uint8)


def say_rows(key, machine, x, step):
    """No rule: it reports the numbers of the rows that it is given."""
    numbers = x @ 2.0 ** jnp.arange(BITS)
    return 0 * jnp.sum(machine.p[0].b[...]), Info(numbers, numbers, numbers, numbers)


def rows_seen(rows, plan, chunks, key=7, **options):
    """The row of each step, in batches of one."""
    structure, params = split(tiny_machine(visible=BITS, sizes=[1]))
    optimizer = make_optimizer("sgd", clip=None)
    options = {"grey": False} | options
    chunk = make_chunk(structure, say_rows, optimizer, plan, batch_size=1, **options)
    state, seen, rates = init_state(params, optimizer), [], Rates.of(0.0, 0.0, 0, 1)
    for _ in range(chunks):
        state, info = chunk(state, jax.random.key(key), jnp.asarray(rows), rates)
        seen.extend(np.asarray(info.steps.estimates.log_p).astype(int).tolist())
    return seen


def test_each_epoch_sees_every_row_once_in_an_order_of_its_own():
    """In chunks of four and three: an order lasts for an epoch and not longer."""
    whole = rows_seen(NUMBERED[:8], ChunkPlan(chunks=2, length=4), chunks=6)
    epochs = [whole[i : i + 8] for i in (0, 8, 16)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert list(range(8)) not in epochs
    assert len(set(map(tuple, epochs))) == 3
    other = rows_seen(NUMBERED[:8], ChunkPlan(chunks=2, length=4), chunks=2, key=8)
    assert sorted(other) == list(range(8))
    assert other != epochs[0]


def test_an_epoch_that_overruns_takes_rows_from_its_own_front():
    seen = rows_seen(NUMBERED[:7], ChunkPlan(chunks=2, length=4), chunks=2)
    assert sorted(seen[:7]) == list(range(7))
    assert seen[7] == seen[0]


def test_a_step_sees_what_its_family_makes_of_stored_rows():
    def upside_down(key, rows, grey):
        return 1 - rows.astype(jnp.float32)

    seen = rows_seen(NUMBERED[:8], ChunkPlan(chunks=1, length=8), chunks=1, see=upside_down)
    assert sorted(seen) == list(range(8, 16))


def test_an_order_is_a_permutation_of_its_key():
    first, second = (np.asarray(epoch_order(jax.random.key(i), 50)) for i in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("rows", [1, 2, 1000, 2**16, 2**16 + 1])
def test_an_order_is_that_of_a_stable_sort(rows):
    """Also where halves of numbers, or whole ones, are equal."""
    rng = np.random.default_rng(rows)
    of_few = rng.choice(rng.integers(0, 2**32, 40, dtype=np.uint32), rows)
    halves = np.stack([of_few, of_few & 0xFFFF0000 | rng.integers(0, 9, rows, np.uint32)])
    for numbers in (*halves, rng.integers(0, 2**32, rows, dtype=np.uint32)):
        order = jax.jit(order_of)(jnp.asarray(numbers))
        assert order.dtype == jnp.int32
        np.testing.assert_array_equal(order, np.argsort(numbers, kind="stable"))


def test_batches_are_consecutive_stretches_of_the_order():
    order = jnp.asarray([3, 1, 4, 0, 2])
    marked = jnp.arange(5, dtype=jnp.uint8)[:, None]
    batches = [
        take_batch(jax.random.key(0), marked, order, jnp.asarray(i), 2, False) for i in range(3)
    ]
    batches = [np.ravel(batch).astype(int).tolist() for batch in batches]
    assert batches == [[3, 1], [4, 0], [2, 3]]


def test_grey_batches_are_drawn_from_their_levels_and_bits_are_left():
    rows = jnp.asarray([[0, 255, 128]], jnp.uint8)
    order = jnp.zeros(1, jnp.int32)
    first, drawn = jnp.asarray(0), []
    take = jax.jit(lambda key: take_batch(key, rows, order, first, 1, True)[0])
    for i in range(20):
        drawn.append(take(jax.random.key(i)))
    low, high, middle = np.array(drawn).T
    assert (low == 0).all()
    assert (high == 1).all()
    assert 0 < middle.mean() < 1
    plain = take_batch(jax.random.key(0), rows // 128, order, first, 1, False)
    np.testing.assert_array_equal(plain, [[0, 1, 1]])
    assert plain.dtype == jnp.float32
    # The faintest level is drawn about once in 255 times, and the level itself is not missed.
    faint = binarise(jax.random.key(1), jnp.full((255, 400), 1, jnp.uint8), True)
    assert abs(float(faint.sum()) - 400) < 5 * 20


@pytest.mark.parametrize(
    ("rows", "batch", "longest", "plan"),
    [
        (1000, 100, 100, (1, 10)),
        (1001, 100, 100, (1, 11)),
        (10_100, 100, 100, (2, 51)),
        (5, 5, 1, (1, 1)),
        (6, 2, 2, (2, 2)),
        (30_000, 100, 100, (3, 100)),
    ],
)
def test_a_plan_has_the_fewest_chunks_and_steps(rows, batch, longest, plan):
    got = plan_epoch(rows, batch, longest)
    assert got == ChunkPlan(*plan)
    assert got.steps_per_epoch == plan[0] * plan[1]


def test_softened_bits_are_on_as_often_as_the_row_and_the_mean_say():
    """(1 - s) x + s m of 20,000 draws each, within 4.5 standard errors."""
    x = jnp.asarray([[0.0, 1.0, 1.0, 0.0]])
    mean = jnp.asarray([0.3, 0.3, 1.0, 0.0])
    drawn = soften(jax.random.key(0), jnp.repeat(x, 20_000, axis=0), mean, 0.2)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    rate = np.asarray(0.8 * x[0] + 0.2 * mean)
    error = np.sqrt(rate * (1 - rate) / 20_000)
    assert np.all(np.abs(np.asarray(drawn).mean(0) - rate) <= 4.5 * error)
    assert np.all(soften(jax.random.key(0), x, mean, 0.0) == x)


def test_a_step_softens_its_rows_anew_with_the_mean_of_all_rows():
    """Two rows, 0000 and 1111: at s = 1/2 a bit of the first is on in a quarter of its steps."""
    rows = np.array([[0] * BITS, [1] * BITS], np.uint8)
    plan = ChunkPlan(chunks=1, length=2)
    assert set(rows_seen(rows, plan, chunks=200)) == {0, 15}
    seen = np.array(rows_seen(rows, plan, chunks=400, softened=0.5))
    bits = (seen[:, None] >> np.arange(BITS)) & 1  # of steps: half of them of either row
    assert abs(bits.mean() - 0.5) < 4.5 * np.sqrt(0.25 / bits.size)
    # Bits of a row are alike with probability (3/4)^2 + (1/4)^2, not always and not by half.
    alike = (bits[:, 0] == bits[:, 1]).mean()
    assert abs(alike - 0.625) < 4.5 * np.sqrt(0.625 * 0.375 / len(bits))


def test_of_grey_levels_the_mean_is_that_of_their_bits():
    rows = np.full((1, BITS), 51, np.uint8)  # on in a fifth of the draws, softened or not
    seen = np.array(
        rows_seen(rows, ChunkPlan(chunks=1, length=500), chunks=2, softened=0.9, grey=True)
    )
    bits = (seen[:, None] >> np.arange(BITS)) & 1
    assert abs(bits.mean() - 0.2) < 4.5 * np.sqrt(0.16 / bits.size)
