"""Chunks, batches, schedules and optimisers; and what a training step costs."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_machine import SIZES, VISIBLE, tiny_machine

from bihm.kernels import packing
from bihm.kernels.products import products_in
from bihm.machine.machine import bind, split
from bihm.machine.minibatches import ChunkPlan, binarise, epoch_order, plan_epoch, take_batch
from bihm.machine.optimizer import Rates, learning_rate, make_optimizer, penalise
from bihm.machine.rules import make_rule
from bihm.machine.training_step import evaluated_params, init_state, make_chunk

PATTERNS = np.array([[0, 0, 0, 1, 1], [1, 1, 1, 0, 0]], np.uint8)  # log 2 = 0.69 nats
ROWS = PATTERNS[np.random.default_rng(0).integers(0, 2, 23)]
PLAIN = {"clip": None}


def small_machine():
    """Of one latent layer: what a chunk does besides the rule needs no more, and compiles sooner."""
    return tiny_machine(sizes=[4])


def learner(plan, average=None, rule="bihm", **optim):
    structure, params = split(small_machine())
    optimizer = make_optimizer("adam", **(PLAIN | optim), average=average)
    rule = make_rule(rule, K=6, sleep_batch_size=3)
    chunk = make_chunk(structure, rule, optimizer, plan, batch_size=4, grey=False)
    return chunk, init_state(params, optimizer)


def run(chunk, state, chunks, rates=None):
    rates = Rates.of(1e-2, 1e-2, 0, 1) if rates is None else rates
    infos = []
    for _ in range(chunks):
        state, info = chunk(state, jax.random.key(7), jnp.asarray(ROWS), rates)
        infos.append(info)
    return state, infos


@pytest.mark.parametrize("rows", [1, 7, 99, 100, 101, 503, 5000, 50_000])
@pytest.mark.parametrize("batch", [1, 25, 100])
def test_an_epoch_covers_every_row_and_overruns_by_little(rows, batch):
    plan = plan_epoch(rows, batch, longest=100)
    assert plan.length <= 100
    assert plan.steps_per_epoch * batch >= rows
    assert plan.steps_per_epoch - -(-rows // batch) < plan.chunks


def test_every_row_is_in_some_batch_of_an_epoch_and_all_batches_are_full():
    plan = plan_epoch(len(ROWS), 4, longest=4)
    order = jax.random.permutation(jax.random.key(0), len(ROWS))
    marked = jnp.arange(len(ROWS), dtype=jnp.uint8)[:, None]  # rows that say their number
    batches = [
        take_batch(jax.random.key(0), marked, order, jnp.asarray(i), 4, False)
        for i in range(plan.steps_per_epoch)
    ]
    assert all(len(set(np.ravel(b))) == 4 for b in batches)
    seen = np.concatenate(batches).ravel()
    assert set(seen) == set(range(len(ROWS)))
    assert np.bincount(seen.astype(int)).max() <= 2


@pytest.fixture(scope="module")
def three():
    """A chunk of three steps, of which two make an epoch."""
    return learner(ChunkPlan(2, 3))[0]


def start():
    return learner(ChunkPlan(2, 3))[1]


@pytest.mark.long
def test_chunks_need_one_compilation_and_a_new_rate_none(three):
    state, _ = run(three, start(), 3)
    run(three, state, 2, Rates.of(3e-4, 1e-5, 6, 50))
    assert three.jitted()._cache_size() == 1


def test_the_same_key_gives_the_same_run_and_chunks_do_not_show(three):
    """Six steps in chunks of three and of two: same permutation, same keys, same parameters."""
    a, infos = run(three, start(), 2)
    two, other = learner(ChunkPlan(3, 2))
    b, _ = run(two, other, 3)
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    assert int(a.step) == 6
    assert infos[0].steps.loss.shape == (3,)


def test_no_gradient_is_paid_for_that_is_zero():
    """Two products a layer for q (forward, weights) and two for p; the first one of q once per example."""
    structure, params = split(tiny_machine())
    K, batch = 6, 7
    rule = make_rule("bihm", K=K)
    x = jnp.zeros((batch, VISIBLE))

    def loss(w):
        return rule(jax.random.key(0), bind(structure, w), x)[0]

    flops = []
    for equation in _equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr):
        shapes = [v.aval.shape for v in equation.invars]
        if equation.primitive.name == "dot_general" and min(map(len, shapes)) > 1:
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = np.prod([equation.invars[0].aval.shape[i] for i in contracted])
            flops.append(int(2 * depth * np.prod(equation.outvars[0].aval.shape)))
    widths = [VISIBLE, *SIZES]
    pairs = [a * b for a, b in itertools.pairwise(widths)]
    p = sum(2 * 2 * K * batch * pair for pair in pairs)
    q = 2 * 2 * batch * pairs[0] + sum(2 * 2 * K * batch * pair for pair in pairs[1:])
    assert sum(flops) == p + q


@pytest.mark.long
def test_bfloat16_is_in_the_products_and_nowhere_else():
    structure, params = split(tiny_machine())
    optimizer = make_optimizer("adam", clip=None)
    rule = make_rule("bihm", K=500)
    rows, key, rates = (
        jnp.ones((4, VISIBLE), jnp.uint8),
        jax.random.key(0),
        Rates.of(1.0, 1.0, 0, 1),
    )

    def chunk(precision):
        return make_chunk(
            structure, rule, optimizer, plan_epoch(4, 4, 1),
            batch_size=4, grey=False, precision=precision,
        )  # fmt: skip

    def grads(precision):
        with products_in(precision):
            return jax.grad(lambda w: rule(key, bind(structure, w), rows.astype(jnp.float32))[0])(
                params
            )

    for precision, dtype in (("f32", "float32"), ("bf16", "bfloat16")):
        state = init_state(params, optimizer)
        jaxpr = jax.make_jaxpr(chunk(precision).__wrapped__)(state, key, rows, rates).jaxpr
        found = {
            str(value.aval.dtype)
            for equation in _equations(jaxpr)
            if equation.primitive.name == "dot_general"
            for value in equation.invars
        }
        assert found == {dtype}
    full, half = jax.jit(lambda: (grads("f32"), grads("bf16")))()
    assert {str(x.dtype) for x in jax.tree.leaves(half)} == {"float32"}
    assert not np.array_equal(*(jax.tree.leaves(g)[0] for g in (full, half)))
    for a, b in zip(*map(jax.tree.leaves, (full, half)), strict=True):
        error = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert error < 0.1


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def test_grey_rows_are_drawn_anew_with_their_level_as_probability():
    rows = jnp.tile(jnp.asarray([[0, 51, 204, 255]], jnp.uint8), (20_000, 1))
    a, b = (binarise(jax.random.key(i), rows, True) for i in range(2))
    assert not np.array_equal(a, b)
    p = np.array([0, 0.2, 0.8, 1])
    assert (np.abs(a.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / 20_000)).all()
    np.testing.assert_array_equal(
        binarise(jax.random.key(0), rows[:1] // 255, False), [[0, 0, 0, 1]]
    )


def test_the_rate_is_constant_or_half_a_cosine():
    steps = jnp.arange(0, 200, 25)
    rate = jax.jit(learning_rate)
    cosine = rate(Rates.of(1e-2, 1e-4, 50, 100), steps)
    reference = jax.jit(optax.cosine_decay_schedule(1e-2 - 1e-4, 100))(steps - 50) + 1e-4
    np.testing.assert_allclose(cosine[2:], reference[2:], rtol=1e-5)
    np.testing.assert_allclose(cosine[:2], 1e-2)
    np.testing.assert_allclose(rate(Rates.of(3e-4, 3e-4, 0, 9), steps), 3e-4)


def test_penalties_touch_weights_only_and_are_the_gradients_of_their_formulas():
    params = {"w": jnp.asarray([[1.5, -2.0], [-0.1, 0.5]]), "b": jnp.asarray([3.0, -1.0])}
    zeros = jax.tree.map(jnp.zeros_like, params)
    added = jax.jit(partial(penalise, l1=0.1, l2=0.01))(zeros, params)
    formula = jax.jit(jax.grad(lambda w: 0.1 * jnp.abs(w).sum() + 0.01 * (w**2).sum()))(params["w"])
    np.testing.assert_allclose(added["w"], formula, rtol=1e-6)
    np.testing.assert_array_equal(added["b"], 0)


def test_clipping_bounds_the_norm_and_adam_is_optax():
    grads = jnp.asarray([3.0, 4.0])
    sgd = make_optimizer("sgd", clip=1.0).transform
    direction, _ = jax.jit(sgd.update)(grads, sgd.init(grads), grads)
    np.testing.assert_allclose(direction, [-0.6, -0.8], rtol=1e-6)
    ours, theirs = make_optimizer("adam", **PLAIN).transform, optax.adam(1.0)
    a, b = (
        jax.jit(lambda g, one=one: one.update(g, one.init(g), g)[0])(grads)
        for one in (ours, theirs)
    )
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    "large", [*(pytest.param(n, marks=pytest.mark.long) for n in (1, 1000)), 7]
)  # all arrays, some and none are packed as large
def test_a_chunk_is_its_steps_written_out(large, monkeypatch):
    """Gradient of the rule, L1, clipping, Adam, the rate and the average, step by step, on trees."""
    monkeypatch.setattr(packing, "LARGE", large)
    plan = ChunkPlan(1, 3)
    chunk, state = learner(plan, average=0.9, clip=0.5, penalised=True)
    structure, params = split(small_machine())
    rule = make_rule("bihm", K=6)
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.scale_by_adam())
    opt_state, average, rows = adam.init(params), params, jnp.asarray(ROWS)
    step_key, order_key = jax.random.split(jax.random.key(7))
    order = epoch_order(jax.random.fold_in(order_key, 0), len(ROWS))

    @jax.jit
    def reference(params, opt_state, average, step):
        data_key, rule_key = jax.random.split(jax.random.fold_in(step_key, step))
        x = take_batch(data_key, rows, order, step, 4, False)
        grads = jax.grad(lambda w: rule(rule_key, bind(structure, w), x)[0])(params)
        grads = penalise(grads, params, 1e-3, 0.0)
        direction, opt_state = adam.update(grads, opt_state)
        params = jax.tree.map(lambda w, d: w - 1e-2 * d, params, direction)
        average = jax.tree.map(lambda a, w: 0.9 * a + 0.1 * w, average, params)
        norms = jnp.stack([jnp.linalg.norm(g) for g in jax.tree.leaves(grads)])
        return params, opt_state, average, norms

    for step in range(3):
        params, opt_state, average, norms = reference(params, opt_state, average, jnp.asarray(step))
    state, infos = run(chunk, state, 1, Rates.of(1e-2, 1e-2, 0, 1, l1=1e-3))
    for ours, theirs in ((state.params, params), (state.average, average)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), ours, theirs)
    grads = packing.pieces(infos[0].last_grads, [leaf.size for leaf in jax.tree.leaves(params)])
    ours = [np.linalg.norm(grad) for grad in grads]
    np.testing.assert_allclose(ours, norms, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(infos[0].steps.grad_norm[-1], np.linalg.norm(norms), rtol=1e-3)


@pytest.mark.long
def test_the_average_follows_the_parameters_and_is_what_is_evaluated():
    chunk, state = learner(ChunkPlan(1, 1), average=0.9)
    start = jax.tree.map(np.array, state.params)
    state, _ = run(chunk, state, 1)
    expected = jax.tree.map(lambda a, w: 0.9 * a + 0.1 * w, start, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.average, expected)
    assert evaluated_params(state) is state.average
    _, plain = learner(ChunkPlan(1, 1))
    assert evaluated_params(plain) is plain.params


@pytest.mark.parametrize(("large", "arrays"), [(1, 4), (3, 3), (100, 1)])
def test_packed_parameters_are_few_and_come_back(large, arrays, monkeypatch):
    monkeypatch.setattr(packing, "LARGE", large)
    tree = {
        "w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(1),
        "v": jnp.arange(4.0).reshape(4, 1), "c": jnp.ones(2),
    }  # fmt: skip
    packed, unpack = packing.pack(tree)
    assert len(packed) == arrays
    jax.tree.map(np.testing.assert_array_equal, unpack([2 * x for x in packed]), {
        name: 2 * x for name, x in tree.items()
    })  # fmt: skip
    leaves = jax.tree.leaves(tree)
    pieces = packing.pieces(packed, [leaf.size for leaf in leaves])
    for piece, leaf in zip(pieces, leaves, strict=True):
        np.testing.assert_array_equal(jnp.ravel(piece), jnp.ravel(leaf))
