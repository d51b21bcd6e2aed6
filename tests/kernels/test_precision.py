"""float32 estimates of trained models against the same samples weighed in float64."""

import ast
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from cases import rare
from small_run import tiny
from tiny_machine import whole_tile

from bihm import runtime
from bihm.data import load
from bihm.errors import ConfigError
from bihm.kernels.products import PRECISIONS
from bihm.machine.layers import Init
from bihm.machine.likelihood import estimate_tile, log_z_tile, no_weights
from bihm.machine.machine import bind, make_machine, split
from bihm.machine.minibatches import plan_epoch
from bihm.machine.optimizer import Rates, make_optimizer
from bihm.machine.rules import RULES, make_rule
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
    optimizer = make_optimizer("adam", clip=None)
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
@pytest.mark.device
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
    got = whole_tile(key, structure, params, x, K, block=BLOCK)
    half, one, two = (log_sum_exp(scale * log_w) for scale in (0.5, 1, 2))
    np.testing.assert_allclose(got.log_p, one - np.log(K), rtol=0, atol=1e-4)
    np.testing.assert_allclose(got.log_p_tilde_star, 2 * (half - np.log(K)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(got.ess_p, np.exp(2 * one - two) / K, rtol=3e-4)
    assert strength == 1 or K * got.ess_p.min() < 100


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sbn", "dsbn", "darn", "nade"])
def test_a_saturated_layer_has_finite_values_and_gradients(kind):
    """Weights of some hundreds: every probability rounds to 0 or 1, and what was drawn is impossible."""
    machine = make_machine(np.random.default_rng(0), 6, [5], [kind] * 2, [kind], Init())
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
    ("cpuinfo", "lack"),
    [
        ("model name\t: A\nflags\t\t: fpu avx2 fma\n", "has no bfloat16 products"),
        ("model name\t: B\nflags\t\t: fpu avx2 avx512_bf16 fma\n", None),
        ("model name\t: Intel(R) C\nflags\t\t: avx2 fma\n", "has no bfloat16 products"),
        ("model name\t: Intel(R) D\nflags\t\t: avx2 avx512_bf16 fma\n", "has no AMX"),
        ("model name\t: Intel(R) E\nflags\t\t: avx512_bf16 amx_bf16 fma\n", None),
        ("Features\t: fp asimd\n", "has no bfloat16 products"),
        ("Features\t: fp asimd bf16\n", None),
        (None, None),
    ],
    ids=["x86", "x86 with", "intel", "no amx", "amx", "arm", "arm with", "does not say"],
)
def test_a_processor_says_whether_it_has_bfloat16(cpuinfo, lack, tmp_path, monkeypatch):
    if jax.default_backend() != "cpu":
        pytest.skip("of processors")
    monkeypatch.setattr(runtime, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        runtime.CPUINFO.write_text(cpuinfo)
    line = runtime.computed_instead("bf16")
    assert line is None if lack is None else line is not None and lack in line


class Card(NamedTuple):
    platform: str
    device_kind: str
    compute_capability: str


@pytest.mark.parametrize(
    ("platform", "capability", "lacking"),
    [
        ("gpu", "7.5", {"tf32", "bf16"}),
        ("gpu", "8.0", set()),
        ("gpu", "12.0", set()),
        ("gpu", "gfx942", set()),
        ("tpu", "", set()),
    ],
)
def test_a_card_says_what_it_lacks(platform, capability, lacking, monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [Card(platform, "Some card", capability)])
    lines = {name: runtime.computed_instead(name) for name in PRECISIONS}
    assert {name for name, line in lines.items() if line is not None} == lacking
    assert all("Some card has no" in line for line in lines.values() if line is not None)


@pytest.mark.parametrize(
    ("precision", "lacks", "told"),
    [
        ("f32", True, []),
        ("bf16", False, []),
        ("bf16", True, ["precision=bf16 is slower than f32 here"]),
        ("tf32", False, ["precision=tf32 means f32 here: this processor has no TF32 products"]),
    ],
)
def test_a_run_says_what_it_computes_instead(precision, lacks, told, tmp_path, monkeypatch, caplog):
    def no_training(*_):
        raise ConfigError("far enough")

    monkeypatch.setattr("bihm.run.training.loop.TrainingLoop.train", no_training)
    monkeypatch.setattr("bihm.runtime._lack_of_bfloat16", lambda: "none" if lacks else None)
    if jax.default_backend() != "cpu":
        pytest.skip("of processors")
    with pytest.raises(ConfigError, match="far enough"):
        train(tiny(precision=precision), tmp_path / "run")
    found = [r.getMessage() for r in caplog.records if r.getMessage().startswith("precision=")]
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def products_of(program, *arguments):
    """The precision that each matrix product of a traced program asks for, inner programs included."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                yield equation.params["precision"]
            for value in equation.params.values():
                for inner in value if isinstance(value, list | tuple) else [value]:
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from walk(inner)

    found = list(walk(jax.make_jaxpr(program)(*arguments).jaxpr))
    assert found
    return set(found)


HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
TF32 = (jax.lax.Precision.HIGH, jax.lax.Precision.HIGH)


@pytest.fixture(scope="module")
def of_all_layers():
    kinds = (["dsbn", "nade", "darn", "sbn"], ["nade", "darn", "sbn"])
    return split(make_machine(np.random.default_rng(0), 6, [5, 4, 3], *kinds, Init()))


@pytest.mark.parametrize(
    ("precision", "asked"),
    [("f32", HIGHEST), ("tf32", TF32), ("bf16", jax.lax.DotAlgorithmPreset.BF16_BF16_F32)],
)
@pytest.mark.parametrize("rule", ["rws", *rare(*(rule for rule in RULES if rule != "rws"))])
def test_every_product_of_a_training_step_asks_for_its_precision(
    rule, precision, asked, of_all_layers
):
    structure, params = of_all_layers
    optimizer = make_optimizer("adam", clip=1.0, penalised=True, average=0.9)
    chunk = make_chunk(
        structure, make_rule(rule, K=3), optimizer, plan_epoch(8, 4, 100),
        batch_size=4, grey=False, precision=precision,
    )  # fmt: skip
    arguments = (
        init_state(params, optimizer),
        jax.random.key(0),
        jnp.zeros((8, 6), jnp.uint8),
        Rates.of(1.0, 1.0, 0, 1, l1=1e-3),
    )
    with jax.default_matmul_precision("bfloat16"):  # the user's own wish for other programs
        assert products_of(chunk.__wrapped__, *arguments) == {asked}


@pytest.mark.parametrize("wish", ["bfloat16", *rare(None, "tensorfloat32")])
def test_every_product_of_an_estimate_is_float32(wish, of_all_layers):
    structure, params = of_all_layers
    x, key = jnp.zeros((4, 6)), jax.random.key(0)

    def estimates(params):
        K = jnp.asarray(10, jnp.int32)
        return (
            estimate_tile.__wrapped__(
                key, structure, params, x, no_weights(4), jnp.asarray(0), K, block=5
            ),
            log_z_tile.__wrapped__(key, structure, params, outer=4, inner=3),
        )

    with jax.default_matmul_precision(wish):
        assert products_of(estimates, params) == {HIGHEST}


@pytest.mark.parametrize("wish", [None, "bfloat16", *rare("tensorfloat32", "BF16_BF16_F32")])
def test_a_machine_on_its_own_multiplies_in_float32_whatever_is_asked_of_jax(wish, of_all_layers):
    structure, params = of_all_layers

    def log_p(params):
        machine = bind(structure, params)
        h, log_q = machine.sample_q(jax.random.key(0), jnp.zeros((4, 6)), 3)
        return machine.log_p(jnp.zeros((4, 6)), h).sum() - log_q.sum()

    with jax.default_matmul_precision(wish):
        assert products_of(jax.grad(log_p), params) == {HIGHEST}


def test_no_other_file_multiplies_matrices():
    """By any of jax's names or by the operator: a product elsewhere would not say its precision."""
    package = Path(runtime.__file__).parent
    found = {}
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text())
        operators = [node for node in ast.walk(tree) if isinstance(node, ast.MatMult)]
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names &= {"matmul", "dot", "einsum", "tensordot", "vdot", "dot_general", "inner"}
        if operators or names:
            found[path.name] = names
    # numpy multiplies the float64 numbers of the Parzen estimate, on the host.
    assert found == {"products.py": {"matmul", "tensordot"}, "parzen.py": set()}
