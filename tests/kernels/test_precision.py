"""float32 estimates of trained models against the same samples weighed in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from small_run import tiny

from bihm import runtime
from bihm.data import load
from bihm.errors import ConfigError
from bihm.machine.layers import Init
from bihm.machine.likelihood import estimate_tile
from bihm.machine.machine import bind, make_machine, split
from bihm.machine.minibatches import plan_epoch
from bihm.machine.optimizer import Rates, make_optimizer
from bihm.machine.rules import make_rule
from bihm.machine.training_step import init_state, make_chunk
from bihm.run.train import train

K, BLOCK, ROWS = 10_000, 100, 6
MIXES = {
    "sbn": (["sbn"] * 3, ["sbn"] * 2),
    "mixed": (["dsbn", "nade", "darn"], ["nade", "dsbn"]),
}


@pytest.fixture(scope="module", params=MIXES)
def trained(request):
    """Two layers on digits, trained roughly; the largest weight is about 4."""
    p_layers, q_layers = MIXES[request.param]
    rows = jnp.asarray(load("digits").train)
    rng = np.random.default_rng(0)
    structure, params = split(make_machine(rng, 64, [30, 10], p_layers, q_layers, Init()))
    optimizer = make_optimizer("adam", clip=None, l1=0.0, l2=0.0)
    plan = plan_epoch(len(rows), 50, longest=100)
    rule = make_rule("bihm", K=5)
    chunk = make_chunk(structure, rule, optimizer, plan, batch_size=50, grey=False)
    state = init_state(params, optimizer)
    for _ in range(20 * plan.chunks):
        state, _ = chunk(state, jax.random.key(0), rows, Rates.of(3e-2, 3e-2, 0, 1))
    return structure, state.params


def log_weights_64(machine, x, h):
    """log p(x, h) - log q(h | x) by the equations, in float64."""
    x, h = np.asarray(x, np.float64), [np.asarray(layer, np.float64) for layer in h]
    x = np.broadcast_to(x, (*h[0].shape[:-1], x.shape[-1]))
    top = np.zeros((*x.shape[:-1], 0))
    log_p = sum(map(oracle.log_prob, machine.p, [x, *h], [*h, top]))
    return log_p - sum(map(oracle.log_prob, machine.q, h, [x, *h[:-1]]))


def log_sum_exp(a):
    return a.max(axis=0) + np.log(np.exp(a - a.max(axis=0)).sum(axis=0))


@pytest.mark.long
@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_estimates_agree_with_float64_to_1e_4_nats(trained, strength):
    """With weights times 4 hardly any sample counts: the effective sample size falls to 1.2 of 10,000."""
    structure, params = trained
    params = jax.tree.map(lambda w: strength * w, params)
    machine = bind(structure, params)
    x = jnp.asarray(load("digits").valid[:ROWS], jnp.float32)
    key = jax.random.key(1)
    draw = jax.jit(lambda key, params: bind(structure, params).sample_q(key, x, BLOCK)[0])
    log_w = np.concatenate(
        [
            log_weights_64(machine, x, draw(jax.random.fold_in(key, i), params))
            for i in range(K // BLOCK)
        ]
    )
    got = estimate_tile(key, structure, params, x, jnp.asarray(K, jnp.int32), block=BLOCK)
    half, one, two = (log_sum_exp(scale * log_w) for scale in (0.5, 1, 2))
    np.testing.assert_allclose(got.log_p, one - np.log(K), rtol=0, atol=1e-4)
    np.testing.assert_allclose(got.log_p_tilde_star, 2 * (half - np.log(K)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(got.ess_p, np.exp(2 * one - two) / K, rtol=3e-4)
    assert strength == 1 or K * got.ess_p.min() < 100


@pytest.mark.parametrize(
    "kind",
    ["sbn", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("dsbn", "darn", "nade"))],
)
def test_a_saturated_layer_has_finite_values_and_gradients(kind):
    """Weights of some hundreds: every probability rounds to 0 or 1, and what was drawn is impossible."""
    machine = make_machine(np.random.default_rng(0), 6, [5, 4], [kind] * 3, [kind] * 2, Init())
    structure, params = split(machine)
    params = jax.tree.map(
        lambda w: 300 * jnp.where(w.ravel()[0] > 0, 1, -1) * jnp.ones_like(w), params
    )
    x = jnp.asarray(np.random.default_rng(1).integers(0, 2, (7, 6)), jnp.float32)
    rule = make_rule("rws", K=3, sleep_batch_size=4)  # it evaluates and samples both sides

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss_and_grads(params):
        return rule(jax.random.key(0), bind(structure, params), x)

    (loss, info), grads = loss_and_grads(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, info, grads)))


@pytest.mark.parametrize(
    ("cpuinfo", "lacks"),
    [
        ("model name\t: A\nflags\t\t: fpu avx2 fma\n", True),
        ("model name\t: B\nflags\t\t: fpu avx2 avx512_bf16 fma\n", False),
        ("Features\t: fp asimd\n", True),
        ("Features\t: fp asimd bf16\n", False),
        (None, False),
    ],
    ids=["x86", "x86 with", "arm", "arm with", "does not say"],
)
def test_a_processor_says_whether_it_has_bfloat16(cpuinfo, lacks, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        runtime.CPUINFO.write_text(cpuinfo)
    assert runtime.lacks_bfloat16() == lacks


def test_a_run_says_when_bfloat16_is_slower(tmp_path, monkeypatch, caplog):
    def no_training(*_):
        raise ConfigError("far enough")

    monkeypatch.setattr("bihm.run.loop.TrainingLoop.train", no_training)
    for precision, lacks in (("f32", True), ("bf16", False), ("bf16", True)):
        monkeypatch.setattr("bihm.run.train.lacks_bfloat16", lambda lacks=lacks: lacks)
        with pytest.raises(ConfigError, match="far enough"):
            train(tiny(precision=precision), tmp_path / f"{precision}-{lacks}")
        assert ("is slower than f32 here" in caplog.text) == (precision == "bf16" and lacks)
