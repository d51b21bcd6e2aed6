"""What an accelerator could do differently from the processor that the other tests run on.

They run on whatever jax finds: `scripts/accelerator/run` starts them where there is a card, together with
the enumerations of `tests/machine/test_exact.py`; on a processor `pytest -m device` shows that they are in
order. Tolerances follow from the rounding of the arithmetic that is promised.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from small_run import EACH_EPOCH, StopAt, assert_same_state, numbers, saved, tiny
from tiny_machine import VISIBLE, tiny_machine, whole_tile

from bihm.errors import Interrupted
from bihm.kernels.products import (
    affine_of_constant,
    product,
    products_in,
    small_product,
    sum_of_products,
)
from bihm.machine.layer_sizes import PAPER_SIZES, PAPER_VISIBLE
from bihm.machine.layers import Init
from bihm.machine.likelihood import log_weights, log_z_tile
from bihm.machine.machine import bind, make_machine, split
from bihm.machine.minibatches import ChunkPlan
from bihm.machine.optimizer import Rates, make_optimizer
from bihm.machine.rules import RULES, make_rule
from bihm.machine.training_step import init_state, make_chunk
from bihm.run.train import train

pytestmark = pytest.mark.device

DEVICE = jax.devices()[0]
ON_PROCESSOR = DEVICE.platform == "cpu"
HAS_TF32 = DEVICE.platform == "gpu" and float(getattr(DEVICE, "compute_capability", 0)) >= 8
EPS = 2.0**-24  # the largest relative error of rounding to float32
# Of one factor: bfloat16 keeps 8 bits and rounds; tf32 keeps 11, and a card may cut the rest off.
FACTOR_ERROR = {"f32": EPS, "tf32": 2.0**-10, "bf16": 2.0**-8}
ROWS = np.random.default_rng(0).integers(0, 2, (12, VISIBLE)).astype(np.uint8)


@pytest.fixture(scope="module")
def published():
    """The paper's 12 layers on 784 pixels, as they start."""
    depth = len(PAPER_SIZES)
    kinds = ["sbn"] * (depth + 1), ["sbn"] * depth
    rng = np.random.default_rng(0)
    return split(make_machine(rng, PAPER_VISIBLE, PAPER_SIZES, *kinds, Init()))


def products_of_all_kinds(a, b):
    """`a @ b` by each function that multiplies, and as the gradient of the affine map."""
    bits = jnp.ones((64, b.shape[0]))  # for y^T d with y of ones: sums of the columns of d
    _, gradient = jax.vjp(lambda w: affine_of_constant(bits, w, jnp.zeros(w.shape[1])), b)
    d = jnp.broadcast_to(a[:1, :1], (64, b.shape[1]))
    return {
        "product": (product(a, b), (a, b)),
        "small": (small_product(a, b), (a, b)),
        "sums": (sum_of_products(a, b, 1), (a, b)),
        "bits": (affine_of_constant(bits, b, jnp.zeros(b.shape[1])), (bits, b)),
        "gradient": (gradient(d)[0], (bits.T, d)),
    }


@pytest.mark.parametrize("precision", FACTOR_ERROR)
def test_products_are_as_precise_as_was_asked_for(precision):
    """Factors of 1 + 2^-12 are ones in TF32 and in bfloat16, and sums of a thousand show it."""
    factors = np.random.default_rng(0).integers(0, 3, (2, 96, 1024)) * 2.0**-12 + 1
    a, b = jnp.asarray(factors[0], jnp.float32), jnp.asarray(factors[1].T, jnp.float32)

    @jax.jit
    def program(a, b):
        with products_in(precision):
            return products_of_all_kinds(a, b)

    for name, (got, pair) in program(a, b).items():
        x, y = (np.asarray(factor, np.float64) for factor in pair)
        exact, error = x @ y, FACTOR_ERROR[precision]
        # Of both factors, and of a sum of n numbers in any order, of which a card adds some in turn.
        bound = (2 * error + EPS * np.sqrt(x.shape[1])) * (np.abs(x) @ np.abs(y))
        off = np.abs(np.asarray(got, np.float64) - exact)
        assert (off <= bound).all(), name
        if precision == "tf32" and HAS_TF32 and name == "product":
            assert off.max() > 1e-5 * exact.max(), "tf32 was asked for and is not what was done"
        if precision == "f32":
            assert (off <= 1e-6 * exact).all(), name


def test_a_machine_with_many_layers_weighs_its_samples_as_float64_does(published):
    """log p and log q are sums over units; each unit's logit is a sum over those of the layer beside it."""
    structure, params = published
    x = np.random.default_rng(1).integers(0, 2, (7, PAPER_VISIBLE)).astype(np.float32)

    @jax.jit
    def weigh(params, x):
        machine = bind(structure, params)
        h, log_q = machine.sample_q(jax.random.key(0), x, 5)
        return h, machine.log_p(x, h), log_q

    h, log_p, log_q = weigh(params, x)
    machine = bind(structure, params)
    wide, h = np.broadcast_to(x, (5, *x.shape)), [np.asarray(one, np.float64) for one in h]
    top = np.zeros((*h[-1].shape[:-1], 0))
    exact_p = sum(map(oracle.log_prob, machine.p, [wide, *h], [*h, top]))
    exact_q = sum(map(oracle.log_prob, machine.q, h, [wide, *h[:-1]]))
    for got, exact in ((log_p, exact_p), (log_q, exact_q)):
        # As if every partial sum of each layer were rounded, the errors all of one sign.
        np.testing.assert_allclose(got, exact, rtol=EPS * 2 * np.sqrt(PAPER_VISIBLE))


def steps_on(device, rule, steps=5):
    """Parameters and losses after some steps of plain gradient descent, computed on a device."""
    structure, params = split(tiny_machine())
    optimizer = make_optimizer("sgd", clip=None, penalised=True)
    with jax.default_device(device):
        chunk = make_chunk(
            structure,
            make_rule(rule, K=6),
            optimizer,
            ChunkPlan(1, steps),
            batch_size=4,
            grey=False,
        )
        state, key, rows, rates = jax.device_put(
            (
                init_state(params, optimizer),
                jax.random.key(7),
                jnp.asarray(ROWS),
                Rates.of(0.1, 0.1, 0, 1, l1=1e-3),
            ),
            device,
        )
        state, info = jax.jit(chunk.__wrapped__)(state, key, rows, rates)
    assert all(leaf.devices() == {device} for leaf in jax.tree.leaves((state, info)))
    return jax.device_get((state.params, info.steps))


@pytest.mark.parametrize("rule", RULES)
def test_the_first_steps_of_a_seed_are_those_of_a_processor(rule):
    """The same random numbers, the same samples, and so the same steps but for rounding.

    A sample differs where a random number lies within rounding of a probability: here once in 10^4 runs.
    log w, a sum of some 30 terms of a few nats, is wrong by 30 x 4 EPS at the most on either device,
    and with it each normalised weight relatively; a gradient is a sum of such weights times numbers in
    [-1, 1]. Each of the five steps of rate 0.1 adds that, and what the one before did to it.
    """
    processor = jax.devices("cpu")[0]
    (ours, mine), (theirs, yours) = steps_on(DEVICE, rule), steps_on(processor, rule)
    error = 2 * 30 * 4 * EPS
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5 * 0.1 * error), ours, theirs
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=10 * error), mine, yours
    )


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_coarser_products_change_a_gradient_by_their_rounding(precision, published):
    """The gradient of log p(x, h) at given h; each product of it has two coarser factors."""
    structure, params = published
    x = jnp.asarray(np.random.default_rng(2).integers(0, 2, (8, PAPER_VISIBLE)), jnp.float32)
    h, _ = jax.jit(lambda w: bind(structure, w).sample_q(jax.random.key(1), x, 3))(params)

    def gradient(precision):
        @jax.jit
        def compute(params):
            with products_in(precision):
                return jax.grad(lambda w: jnp.mean(bind(structure, w).log_p(x, h)))(params)

        return np.concatenate([np.ravel(g) for g in jax.tree.leaves(compute(params))])

    exact, coarse = gradient("f32"), gradient(precision)
    error = np.linalg.norm(coarse - exact) / np.linalg.norm(exact)
    assert error <= 2 * 2 * FACTOR_ERROR[precision]  # of logits and of their gradient
    assert error > 0 or precision == "tf32"
    if precision == "tf32" and HAS_TF32:
        assert error > 10 * EPS, "tf32 was asked for and is not what was done"


def test_nothing_falls_back_to_the_processor(published):
    """All that a step and an estimate leave is on the device, and no program calls the host."""
    structure, params = published
    optimizer = make_optimizer("adam", clip=1.0, penalised=True, average=0.9)
    rows = jnp.zeros((6, PAPER_VISIBLE), jnp.uint8)
    chunk = make_chunk(
        structure, make_rule("bihm", K=3), optimizer, ChunkPlan(1, 2), batch_size=4, grey=False
    )
    state = init_state(jax.tree.map(jnp.copy, params), optimizer)
    arguments = jax.random.key(0), rows, Rates.of(1e-3, 1e-3, 0, 1, l1=1e-5)
    compiled = chunk.jitted().lower(state, *arguments).compile()
    text = compiled.as_text()
    assert not {word for word in ("callback", "infeed", "outfeed", "send(") if word in text}
    assert "S(5)" not in text  # memory of the host
    left = [compiled(state, *arguments)]
    x = rows[:2].astype(jnp.float32)
    left.append(whole_tile(jax.random.key(1), structure, params, x, 4, block=2)[:4])
    left.append(log_z_tile(jax.random.key(2), structure, params, outer=3, inner=2))
    assert all(leaf.devices() == {DEVICE} for leaf in jax.tree.leaves(left))
    assert jax.default_backend() == DEVICE.platform


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    config = tiny(**EACH_EPOCH)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        StopAt(patch, 2)
        with pytest.raises(Interrupted):
            train(tiny(**EACH_EPOCH), tmp_path / "parts")
    assert saved(tmp_path / "parts").latest.step < saved(tmp_path / "whole").latest.step
    parts = train(tiny(**EACH_EPOCH), tmp_path / "parts")
    assert numbers(parts) == numbers(whole)
    assert_same_state(saved(tmp_path / "parts").latest, saved(tmp_path / "whole").latest)
    assert_same_state(saved(tmp_path / "parts").best, saved(tmp_path / "whole").best)


def test_the_same_program_gives_the_same_bits_twice(published):
    """Sums in an order that differs from call to call would make resuming another run."""
    structure, params = published
    x = jnp.asarray(np.random.default_rng(3).integers(0, 2, (20, PAPER_VISIBLE)), jnp.float32)
    rule = make_rule("rws", K=10)
    gradient = jax.jit(
        lambda w: jax.grad(lambda w: rule(jax.random.key(5), bind(structure, w), x)[0])(w)
    )
    runs = [jax.device_get(gradient(params)) for _ in range(4)]
    for one, other in itertools.pairwise(runs):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_estimates_of_the_device_are_those_of_its_own_log_weights(published):
    """The running sums over blocks against one sum over all samples in float64."""
    structure, params = published
    x = jnp.asarray(np.random.default_rng(4).integers(0, 2, (3, PAPER_VISIBLE)), jnp.float32)
    key, K, block = jax.random.key(6), 50, 10
    weigh = jax.jit(lambda key, w: log_weights(key, bind(structure, w), x, block))
    blocks = [weigh(jax.random.fold_in(key, i), params) for i in range(K // block)]
    log_w = np.concatenate(blocks).astype(np.float64)
    top = log_w.max(axis=0)
    got = whole_tile(key, structure, params, x, K, block=block)
    exact = top + np.log(np.exp(log_w - top).mean(axis=0))
    np.testing.assert_allclose(got.log_p, exact, rtol=EPS * 2 * np.sqrt(PAPER_VISIBLE))
