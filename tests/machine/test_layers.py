"""The layer types: causality, order, shapes, extremes, and training with each rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from flax import nnx
from oracle import bit_logits, conditional_table, exact, states
from tiny_machine import whole_tile

from bihm.config import Config
from bihm.config.machine_checks import check_machine
from bihm.errors import ConfigError
from bihm.kernels.compiled import fast_jit
from bihm.machine.layers import LAYERS, Init, LayerSpec, make_layer
from bihm.machine.machine import (
    bind,
    count_parameters,
    make_machine,
    parameter_names,
    split,
)
from bihm.machine.minibatches import plan_epoch
from bihm.machine.optimizer import Rates, make_optimizer, penalise
from bihm.machine.rules import make_rule
from bihm.machine.training_step import init_state, make_chunk
from bihm.run.build import make_parts

UNITS, INPUTS = 5, 3


def spec_name(value):
    return "-".join(map(str, value)) if isinstance(value, LayerSpec) else str(value)


# In a random order, and of several hidden layers: the more general forms.
NADE = LayerSpec("nade", order="random")  # what takes longest to compile
AUTOREGRESSIVE = [
    *(LayerSpec("darn", order="random"), NADE),
    *rare(*(LayerSpec(name, order="natural") for name in ("darn", "nade"))),
]
SPECS = [
    LayerSpec("sbn"),
    LayerSpec("dsbn", (2, 6), "relu"),
    *rare(LayerSpec("dsbn", (4,), "sigmoid")),
    *AUTOREGRESSIVE,
]
# A type that somebody adds is tested by what holds for any conditional.
NEW = [LayerSpec(name) for name in LAYERS if name not in ("sbn", "dsbn", "darn", "nade")]
# Of the quick tests:
WITHOUT_NADE = [*(spec for spec in SPECS if spec != NADE), *rare(NADE), *NEW]


def layer_of(spec, inputs=INPUTS, units=UNITS, scale=1.0):
    """A layer with weights large enough to matter; the order stays what it is."""
    rng = np.random.default_rng(3)
    layer = make_layer(spec, rng, inputs, units, Init())
    for path, value in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        if path[-1] != "order":
            value[...] = jnp.asarray(scale * rng.standard_normal(value.shape), jnp.float32)
    return layer


def bits(n):
    return states(n).astype(np.float32)


# Compiled whole: operation by operation the compilations take longest.
log_prob_of = fast_jit(lambda layer, h, y: layer.log_prob(h, y))
sampled = fast_jit(lambda layer, noise, y: layer.sample(noise, y))


def everything():
    """All h and all y, broadcast against each other."""
    return jnp.asarray(bits(UNITS)[None]), jnp.asarray(bits(INPUTS)[:, None])


def uniform(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


def order_of(layer):
    if layer.order is None:
        return list(range(layer.n_units))
    return [int(i) for i in layer.order[...]]


@pytest.mark.parametrize("spec", [*SPECS, *NEW], ids=spec_name)
def test_each_conditional_is_its_equation(spec):
    layer = layer_of(spec)
    log_prob = log_prob_of(layer, bits(UNITS)[None, :, :], bits(INPUTS)[:, None, :])
    np.testing.assert_allclose(np.exp(log_prob), conditional_table(layer), rtol=2e-5)
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("spec", AUTOREGRESSIVE, ids=spec_name)
def test_the_logits_of_units_are_those_of_the_equation(spec):
    layer = layer_of(spec)
    h, y = states(UNITS)[None, :, :], states(INPUTS)[:, None, :]
    got = fast_jit(layer.unit_logits)(h.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(got, bit_logits(layer, h, y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=spec_name)
def test_noise_beyond_the_unit_interval_holds_a_unit_however_unlikely(spec):
    layer = layer_of(spec, scale=2.0)
    layer.b[...] = jnp.asarray([200.0, -200.0, 0, 0, 0])  # where float32's sigmoid is 1 and 0
    held = uniform(50, UNITS)
    held[:, :3] = [2.0, -1.0, -1.0]
    got = sampled(layer, held, np.ones((50, INPUTS), np.float32))
    np.testing.assert_array_equal(got[:, :3], np.broadcast_to([0, 1, 1], (50, 3)))
    assert 0 < np.asarray(got)[:, 3:].mean() < 1


@pytest.mark.long
def test_a_nade_walks_right_where_its_exponentials_would_leave_their_range():
    """Hidden inputs of -100 that a later bit takes back to 0: out of float32's reach as exp(-u)."""
    layer = layer_of("nade")
    layer.m[...] = layer.m[...].at[0].set(-100.0).at[1].set(100.0).at[2].set(101.0)
    h, y = jnp.asarray(bits(UNITS)[:, None]), jnp.asarray(bits(INPUTS)[None])
    structure, params = nnx.split(layer, nnx.Param)

    @jax.jit
    def log_prob(params, h):
        return nnx.merge(structure, params).log_prob(h, y)

    np.testing.assert_allclose(np.exp(log_prob(params, h)).T, conditional_table(layer), rtol=2e-4)
    noise = jax.random.uniform(jax.random.key(0), (40, 2**INPUTS, UNITS))
    drawn, log_p = jax.jit(layer.sample_and_log_prob)(noise, y)
    np.testing.assert_allclose(log_p, log_prob(params, drawn), rtol=1e-6)
    grads = jax.jit(jax.grad(lambda w: log_prob(w, h).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.long
def test_both_forms_of_a_nade_walk_have_the_same_derivative(monkeypatch):
    structure, params = nnx.split(layer_of("nade"), nnx.Param)
    h, y = jnp.asarray(bits(UNITS)[:, None]), jnp.asarray(bits(INPUTS)[None])

    def grads():
        return jax.grad(lambda w: nnx.merge(structure, w).log_prob(h, y).sum())(params)

    in_products = grads()
    monkeypatch.setattr("bihm.machine.layers.nade_walk.LARGEST_INPUT", -1.0)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), in_products, grads()
    )


@pytest.mark.parametrize("spec", AUTOREGRESSIVE, ids=spec_name)
def test_a_unit_depends_on_those_drawn_before_it_and_on_no_other(spec):
    """With noise fixed, forcing the outcome of one unit changes later units only."""
    layer = layer_of(spec, scale=2.0)
    order = order_of(layer)
    assert sorted(order) == list(range(UNITS))
    assert (order == list(range(UNITS))) == (spec.order == "natural")
    noise = uniform(200, UNITS)
    y = np.zeros((1, INPUTS), np.float32)
    moved = np.zeros((UNITS, UNITS), bool)
    for i in range(UNITS):
        this = np.arange(UNITS) == i
        off, on = (
            np.asarray(sampled(layer, np.where(this, np.float32(value), noise), y))
            for value in (1, 0)
        )
        moved[i] = np.any(off != on, axis=0)
    in_order = moved[np.ix_(order, order)]
    assert not np.tril(in_order, -1).any()
    assert np.triu(in_order).sum() > UNITS + 4  # later units do depend, on most of the earlier ones


@pytest.mark.parametrize("spec", AUTOREGRESSIVE, ids=spec_name)
def test_the_marginal_of_the_first_units_does_not_know_the_later_ones(spec):
    """sum over later units of p(h | y) = product of the first factors: a table, in drawing order."""
    layer = layer_of(spec)
    order = order_of(layer)
    y = np.ones(INPUTS, np.float32)
    p = np.exp(np.asarray(log_prob_of(layer, bits(UNITS), y), np.float64))
    table = p.reshape([2] * UNITS).transpose(order)
    changed = layer_of(spec)
    last = order[-1]
    changed.b[...] = changed.b[...].at[last].add(2.0)
    q = np.exp(np.asarray(log_prob_of(changed, bits(UNITS), y), np.float64))
    other = q.reshape([2] * UNITS).transpose(order)
    assert np.abs(other - table).max() > 0.01
    np.testing.assert_allclose(other.sum(axis=-1), table.sum(axis=-1), atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [*(s for s in SPECS if s != NADE), *rare(NADE)],
    ids=spec_name,
)
@pytest.mark.parametrize("inputs", [INPUTS, pytest.param(0, marks=pytest.mark.long)])
def test_an_argument_without_the_samples_axis_is_one_broadcast_over_it(spec, inputs):
    layer = layer_of(spec, inputs)
    structure, params = nnx.split(layer, nnx.Param)
    rng = np.random.default_rng(0)
    h, y = (jnp.asarray(rng.integers(0, 2, (7, 6, n)), jnp.float32) for n in (UNITS, inputs))
    weights = jnp.asarray(rng.standard_normal((7, 6)), jnp.float32)

    @jax.jit
    def value_and_grad(params, h, y):
        def total(params):
            return (weights * nnx.merge(structure, params).log_prob(h, y)).sum()

        return jax.value_and_grad(total)(params)

    def whole(a):
        return jnp.broadcast_to(a, (7, *a.shape[-2:]))

    for short_h, short_y in ((h[0], y), (h, y[0])):
        got = value_and_grad(params, short_h, short_y)
        expected = value_and_grad(params, whole(short_h), whole(short_y))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)


def test_what_depends_on_x_alone_is_computed_once_per_example():
    """No product of the compiled evaluation takes an argument that has the samples axis needlessly."""
    x, latent = jnp.zeros((6, 9)), jnp.zeros((7, 6, UNITS))

    def products(layer, h, y):
        text = str(jax.make_jaxpr(lambda h, y: layer.log_prob(h, y))(h, y))
        return [line for line in text.splitlines() if "dot_general" in line and ",9]" in line]

    bottom = make_layer("darn", np.random.default_rng(0), UNITS, 9, Init())  # A x
    (a_x,) = (line for line in products(bottom, x, latent) if "6,9]" in line and "7,6" not in line)
    assert a_x.split("dot_general")[0].rstrip(" =").endswith(":f32[6,9]")
    hidden = make_layer(LayerSpec("nade", (9,)), np.random.default_rng(0), 9, UNITS, Init())  # C y
    assert any(":f32[6,9] = dot_general" in line for line in products(hidden, latent, x))


@pytest.mark.parametrize("spec", WITHOUT_NADE, ids=spec_name)
def test_gradients_agree_with_central_differences_of_the_table(spec):
    layer = layer_of(spec, scale=0.7)
    structure, params = nnx.split(layer, nnx.Param)
    table = np.random.default_rng(2).standard_normal((2**INPUTS, 2**UNITS))

    def total(params):
        log_prob = nnx.merge(structure, params).log_prob(*everything())
        return (jnp.asarray(table, jnp.float32) * log_prob).sum()

    grads = jax.tree.leaves(fast_jit(jax.grad(total))(params))
    expected = numeric_gradient(
        structure, params, lambda at: (table * np.log(conditional_table(at))).sum()
    )
    for name, grad, truth in zip(parameter_names(params), grads, expected, strict=True):
        np.testing.assert_allclose(grad, truth, rtol=2e-3, atol=5e-3, err_msg=name)


def numeric_gradient(structure, params, value, step=1e-2):
    """Central differences of a float64 `value(layer)` in every parameter."""
    leaves, tree = jax.tree.flatten(params)
    grads = []
    for i, (name, leaf) in enumerate(zip(parameter_names(params), leaves, strict=True)):
        grad = np.zeros(leaf.size)
        for j in range(leaf.size if name != "order" else 0):
            ends = []
            for sign in (1, -1):
                moved = np.array(leaf).ravel()
                moved[j] += np.float32(sign * step)
                new = [*leaves[:i], jnp.asarray(moved.reshape(leaf.shape)), *leaves[i + 1 :]]
                layer = nnx.merge(structure, jax.tree.unflatten(tree, new))
                ends.append((value(layer), float(moved[j])))
            grad[j] = (ends[0][0] - ends[1][0]) / (ends[0][1] - ends[1][1])
        grads.append(grad.reshape(leaf.shape))
    return grads


@pytest.mark.parametrize("spec", WITHOUT_NADE, ids=spec_name)
def test_what_a_sampler_says_of_its_draw_is_what_evaluation_says_of_it(spec):
    layer = layer_of(spec)
    structure, params = nnx.split(layer, nnx.Param)
    y = jnp.asarray(bits(INPUTS))
    noise = jnp.asarray(uniform(50, len(y), UNITS))
    weights = np.random.default_rng(2).standard_normal((50, len(y)), np.float32)

    def by_sampling(params):
        h, log_prob = nnx.merge(structure, params).sample_and_log_prob(noise, y)
        return (weights * log_prob).sum(), (h, log_prob)

    def by_evaluation(params, h):
        log_prob = nnx.merge(structure, params).log_prob(h, y)
        return (weights * log_prob).sum(), log_prob

    grads, (h, log_prob) = fast_jit(jax.grad(by_sampling, has_aux=True))(params)
    np.testing.assert_array_equal(sampled(layer, noise, y), h)
    expected, evaluated = fast_jit(jax.grad(by_evaluation, has_aux=True))(params, h)
    np.testing.assert_allclose(log_prob, evaluated, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), grads, expected)
    counts = np.asarray(h).mean(axis=0)  # of each unit alone; the joint is test_exact's
    table = conditional_table(layer)
    expected = table @ states(UNITS)
    error = np.sqrt(expected * (1 - expected) / 50)
    assert (np.abs(counts - expected) <= 5 * error + 0.02).all()


@pytest.mark.parametrize("order", ["random", *rare("natural")])
def test_entries_of_a_that_are_masked_have_no_gradient_and_feel_no_penalty(order):
    layer = make_layer(
        LayerSpec("darn", order=order), np.random.default_rng(3), INPUTS, UNITS, Init()
    )
    place = order_of(layer)
    masked = np.array(
        [[place.index(j) >= place.index(i) for j in range(UNITS)] for i in range(UNITS)]
    )
    start = np.asarray(layer.a[...])
    assert (start[masked] == 0).all()
    assert (start[~masked] != 0).all()
    structure, params = nnx.split(layer, nnx.Param)
    adam = make_optimizer("adam", clip=1.0, penalised=True).transform
    state = adam.init(params)

    @jax.jit
    def step(params, state):
        grads = jax.grad(
            lambda w: (
                -nnx.merge(structure, w).log_prob(jnp.asarray(bits(UNITS)), jnp.ones(INPUTS))[-2]
            )
        )(params)
        direction, state = adam.update(penalise(grads, params, l1=0.1, l2=0.1), state, params)
        return grads, jax.tree.map(lambda w, d: w + 0.1 * d, params, direction), state

    for _ in range(3):
        grads, params, state = step(params, state)
    assert (np.asarray(grads["a"][...])[masked] == 0).all()
    assert (np.asarray(grads["a"][...])[~masked] != 0).any()
    assert (np.asarray(params["a"][...])[masked] == 0).all()
    if order == "random":
        np.testing.assert_array_equal(params["order"][...], place)


@pytest.mark.parametrize("spec", [*(s for s in SPECS if s != NADE), *rare(NADE)], ids=spec_name)
def test_saturated_layers_give_finite_values_and_gradients(spec):
    layer = layer_of(spec, scale=1e4)
    structure, params = nnx.split(layer, nnx.Param)

    def total(params):
        return nnx.merge(structure, params).log_prob(*everything()).sum()

    value, grads = fast_jit(jax.value_and_grad(total))(params)
    assert value < -1e4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads)))
    h, log_prob = fast_jit(layer.sample_and_log_prob)(
        uniform(9, UNITS), np.ones((1, INPUTS), np.float32)
    )
    assert set(np.unique(h)) <= {0.0, 1.0}
    assert (log_prob > -20).all()  # what was drawn was likely


def test_widths_of_hidden_layers():
    def shapes(spec, inputs=5, units=2):
        layer = make_layer(spec, np.random.default_rng(0), inputs, units, Init())
        params = nnx.state(layer, nnx.Param)
        return dict(
            zip(parameter_names(params), [a.shape for a in jax.tree.leaves(params)], strict=True)
        )

    assert shapes("dsbn") == {"b": (2,), "c.0": (4,), "u.0": (5, 4), "w": (4, 2)}
    two = shapes(LayerSpec("dsbn", (7, 3)))
    assert (two["u.0"], two["u.1"], two["w"]) == ((5, 7), (7, 3), (3, 2))
    assert shapes(LayerSpec("dsbn", (7, 3)), inputs=0) == {"b": (2,)}
    assert shapes("nade")["v"] == shapes("nade")["m"] == (2, 4)
    assert shapes(LayerSpec("nade", (9,)))["u"] == (5, 9)
    assert set(shapes("nade", inputs=0)) == {"b", "c", "v", "m"}
    assert set(shapes("darn", inputs=0)) == {"a", "b"}


P = [LayerSpec("nade", order="random"), "dsbn", "darn"]
Q = [LayerSpec("darn", order="random"), LayerSpec("nade", (6,))]
RULES = {
    "bihm": make_rule("bihm", K=5),
    "rws": make_rule("rws", K=5, q_update="both", sleep_batch_size=10),
    "wake_sleep": make_rule("wake_sleep", K=5, sleep_batch_size=10),
}


def small_machine(p=P, q=Q):
    return make_machine(np.random.default_rng(0), 5, [4, 3], p, q, Init())


def patterns():
    """40 rows: two patterns, each with one bit in ten flipped."""
    rng = np.random.default_rng(0)
    clean = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 1, 0]], np.uint8)[rng.integers(0, 2, 40)]
    return clean ^ (rng.random(clean.shape) < 0.1).astype(np.uint8)


def trained(machine, rule, chunks=8, average=None):
    """Train on `patterns` with the learner's own chunk, 50 steps each."""
    structure, params = split(machine)
    optimizer = make_optimizer("adam", clip=None, average=average)
    state = init_state(params, optimizer)
    chunk = make_chunk(
        structure,
        RULES[rule],
        optimizer,
        plan_epoch(50 * 10, 10, 50),
        batch_size=10,
        grey=False,
    )
    rows = jnp.asarray(patterns())
    for _ in range(chunks):
        state, _ = chunk(state, jax.random.key(0), rows, Rates.of(0.01, 0.01, 0, 1))
    assert chunk.jitted()._cache_size() == 1
    return structure, state


@pytest.mark.long
@pytest.mark.parametrize("rule", ["bihm", "rws", "wake_sleep"])
def test_a_trained_machine_still_sums_to_one_over_all_inputs(rule):
    """The program's own numbers over all 2^5 inputs, after training with each rule."""
    before = small_machine()
    order = np.array(before.p[0].order[...])
    structure, state = trained(before, rule, average=0.9)
    machine = bind(structure, state.params)
    # The order is a part of the parameters that nothing moves, and it is not counted as free.
    np.testing.assert_array_equal(machine.p[0].order[...], order)
    averaged = bind(structure, state.average)
    h, y = states(5)[:, None, :], states(4)[None, :, :]
    np.testing.assert_allclose(
        averaged.p[0].log_prob(jnp.asarray(h, jnp.float32), jnp.asarray(y, jnp.float32)).T,
        np.log(conditional_table(averaged.p[0])),
        atol=1e-4,
    )

    rows = patterns() @ 2 ** np.arange(5)[::-1]
    truth, start = exact(machine), exact(small_machine())
    assert truth.log_p[rows].mean() > start.log_p[rows].mean() + 0.5
    x, latents = jnp.asarray(bits(5)), np.split(states(7), [4], axis=1)
    joint = machine.log_p(x[None], [jnp.asarray(a, jnp.float32)[:, None, :] for a in latents])
    log_p = np.logaddexp.reduce(np.asarray(joint, np.float64), axis=0)
    np.testing.assert_allclose(log_p, truth.log_p, atol=1e-4)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)

    K, repeats = 400, 30
    keys = jax.random.split(jax.random.key(7), repeats)
    sums = [
        np.exp(np.asarray(whole_tile(key, structure, state.params, x, K, block=100).log_p)).sum()
        for key in keys
    ]
    assert abs(np.mean(sums) - 1) <= 5 * np.std(sums, ddof=1) / np.sqrt(repeats)


def test_the_order_is_stored_with_the_weights_and_not_counted():
    structure, params = split(small_machine())
    names = parameter_names(params)
    assert [n for n in names if n.endswith("order")] == ["p.0.order", "q.0.order"]
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    unused = 5 + 4 + (3 * 4 // 2 + 4 * 5 // 2)  # two orders, the masked halves of p.2.a and q.0.a
    assert count_parameters(params) == sum(sizes) - unused
    assert hash(structure) == hash(split(small_machine())[0])  # one compilation for both
    rounded = small_machine()  # as an exponential average may leave it
    rounded.p[0].order[...] = jnp.nextafter(rounded.p[0].order[...], jnp.asarray(-1.0))
    one, other = (
        log_prob_of(m.p[0], bits(5), np.ones((1, 4), np.float32))
        for m in (small_machine(), rounded)
    )
    np.testing.assert_array_equal(one, other)
    other = make_machine(np.random.default_rng(1), 5, [4, 3], P, Q, Init())
    assert not np.array_equal(other.p[0].order[...], small_machine().p[0].order[...])
    assert structure == split(other)[0]


@pytest.mark.long
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu"])
def test_the_authors_small_weights_do_not_stop_deterministic_layers(activation):
    """Every parameter has a gradient at the start, though the authors' bound is a tenth of Glorot's."""
    spec = LayerSpec("dsbn", (30, 20), activation)
    for layer in (
        make_layer(spec, np.random.default_rng(0), 40, 10, Init("authors")),
        make_layer("nade", np.random.default_rng(0), 40, 10, Init("authors")),
    ):
        structure, params = nnx.split(layer, nnx.Param)
        y = (jax.random.uniform(jax.random.key(0), (64, 40)) < 0.5).astype(jnp.float32)
        h = y[:, :10]  # a function to be learnt

        @jax.jit
        def loss_and_step(params, structure=structure, h=h, y=y):
            def loss(w):
                return -nnx.merge(structure, w).log_prob(h, y).mean()

            value, grads = jax.value_and_grad(loss)(params)
            return value, grads, jax.tree.map(lambda w, g: w - 0.3 * g, params, grads)

        first, grads, params = loss_and_step(params)
        assert all(np.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(grads))
        for _ in range(400):
            last, _, params = loss_and_step(params)
        assert last < 0.9 * 10 * np.log(2) < first


def reading(option):
    """The types of layers that read an option, as a refusal names them."""
    return " or ".join(sorted(kind for kind, layer in LAYERS.items() if option in layer.options))


WRONG = [
    ("q", {"hidden": 0, "layer": "dsbn"}, "q.hidden must be a whole number >= 1"),
    ("q", {"hidden": [], "layer": "dsbn"}, "q.hidden must be a whole number >= 1"),
    ("q", {"hidden": [3, 0], "layer": "dsbn"}, "q.hidden must be a whole number >= 1"),
    ("q", {"hidden": True, "layer": "nade"}, "q.hidden must be a whole number >= 1"),
    ("p", {"hidden": 2.5, "layer": "nade"}, "p.hidden must be a whole number >= 1"),
    ("p", {"hidden": [3], "layer": "nade"}, "p.hidden must be one number"),
    ("p", {"hidden": 3}, f"p.hidden has no meaning: p.layer has no {reading('hidden')}"),
    (
        "p",
        {"activation": "foo", "layer": "dsbn"},
        "p.activation must be one of tanh, sigmoid, relu",
    ),
    (
        "p",
        {"activation": "relu"},
        f"p.activation has no meaning: p.layer has no {reading('activation')}",
    ),
    ("q", {"order": "foo", "layer": "darn"}, "q.order must be one of natural, random"),
    ("q", {"order": "random", "layer": "dsbn"}, "q.order has no meaning"),
    ("q", {"layer": ["sbn", "foo"]}, f"q.layer must be one of {', '.join(LAYERS)}, got 'foo'"),
]


def config_of(side, options):
    config = Config(depth=2, layers=[4, 3])
    config.dataset.n_features = 5
    for key, value in options.items():
        setattr(getattr(config, side), key, value)
    return config


@pytest.mark.parametrize(("side", "options", "message"), WRONG, ids=str)
def test_wrong_options_die_with_one_line(side, options, message):
    with pytest.raises(ConfigError) as caught:
        check_machine(config_of(side, options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_configuration_reaches_the_layers():
    config = config_of("q", {"layer": ["dsbn", "nade"], "hidden": 6, "activation": "relu"})
    config.q.order, config.p.layer, config.p.order = "random", ["nade", "darn", "sbn"], "natural"
    check_machine(config)
    structure, params, _ = make_parts(config)
    machine = bind(structure, params)
    assert [type(layer) for layer in machine.p] == [LAYERS[name] for name in config.p.layer]
    assert [type(layer) for layer in machine.q] == [LAYERS[name] for name in config.q.layer]
    assert machine.q[0].activation == "relu"
    assert machine.q[0].u[0].shape == (5, 6)
    assert machine.q[1].m.shape == (3, 6)
    assert machine.q[1].order is not None
    assert machine.p[0].order is None
    assert machine.p[0].m.shape == (5, 10)
