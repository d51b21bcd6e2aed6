"""Target propagation against exact small cases, and a numpy loop written from the paper (METHOD 1-8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare

from bihm.machine.machine import parameter_names, split
from bihm.machine.targetprop import sampling, training
from bihm.machine.targetprop.machine import (
    Inference,
    TargetPropMachine,
    bind,
    encode,
    infer,
    infer_path,
    log_p_terms,
    paper_units,
    start,
    step,
)
from bihm.machine.targetprop.training import Noise

# Compiled whole: operation by operation the compilations would take minutes.
inferred = jax.jit(
    lambda machine, x, how, observed=None, key=None: (
        infer(machine, x, how, observed=observed, key=key).h
    ),
    static_argnames="how",
)
generated = jax.jit(
    sampling.generate, static_argnames=("samples", "variance", "rounds", "inference")
)
drawn = jax.jit(sampling.directed, static_argnames=("samples", "variance"))
completed = jax.jit(sampling.complete, static_argnames=("sweeps", "inference"))
chained = jax.jit(sampling.chain, static_argnames=("sweeps", "noise"))
moments = jax.jit(training.top_moments, static_argnames="how")
corrupted = jax.jit(training.corrupt, static_argnames="noise")
encoded = jax.jit(encode)
VISIBLE, SIZES = 5, [3, 2]  # pairwise different, so that no axis can be another
ROUNDING = 2e-5  # relative, of sums of a few float32 products of size one
X = np.random.default_rng(1).random((4, VISIBLE)).astype(np.float32)
SILENT = Noise(x=0.0, h=0.0, spikes=0)
PHI = {
    "softplus": lambda a: np.log1p(np.exp(a)),
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "linear": lambda a: a,
}
SLOPE = {
    "softplus": PHI["logistic"],
    "logistic": lambda a: PHI["logistic"](a) * (1 - PHI["logistic"](a)),
}


def machine_of(sizes=SIZES, units=None, visible=VISIBLE, seed=0, scale=0.7):
    """A machine with biases that matter."""
    rng = np.random.default_rng(seed)
    units = paper_units(len(sizes)) if units is None else units
    machine = TargetPropMachine(rng, visible, sizes, units)
    for one in [*machine.f, *machine.g]:
        one.w[...] = jnp.asarray(scale * rng.standard_normal(one.w.shape), jnp.float32)
        one.b[...] = jnp.asarray(0.3 * rng.standard_normal(one.b.shape), jnp.float32)
    return machine


def linear_machine(tied, seed=3):
    """One latent layer, x = V h and h = W x; in the row notation of the code, weights are W^T and V^T."""
    machine = machine_of([3], ["linear", "linear"], seed=seed)
    machine.f[0].b[...] = jnp.zeros(3)
    machine.g[0].b[...] = jnp.zeros(VISIBLE)
    if tied:
        machine.f[0].w[...] = machine.g[0].w[...].T
    return machine


class Plain:
    """The same machine by numpy loops in float64, one row at a time, as METHOD-plausible.md prints it."""

    def __init__(self, machine):
        def maps(of):
            return [(np.asarray(m.w[...], float), np.asarray(m.b[...], float), m.unit) for m in of]

        self.up, self.down = maps(machine.f), maps(machine.g)
        self.L = len(self.up)

    def f(self, n, a):
        w, b, unit = self.up[n - 1]
        return np.array(
            [PHI[unit](b[j] + sum(a[i] * w[i, j] for i in range(len(a)))) for j in range(len(b))]
        )

    def g(self, n, h):
        w, b, unit = self.down[n - 1]
        return np.array(
            [PHI[unit](b[j] + sum(h[i] * w[i, j] for i in range(len(h)))) for j in range(len(b))]
        )

    def infer(self, x, how, observed=None):
        h = [x]
        for n in range(1, self.L + 1):
            h.append(self.f(n, h[-1]))
        for _ in range(how.N):
            for n in range(self.L, 0, -1):
                below = h[n - 1]
                if n == 1 and observed is not None:
                    below = np.where(observed, x, self.g(1, h[1]))
                change = how.delta * (self.f(n, below) - self.f(n, self.g(n, h[n])))
                if n < self.L:
                    change = change + how.alpha * (self.g(n + 1, h[n + 1]) - h[n])
                h[n] = h[n] + change
        return h


@pytest.mark.parametrize("sizes", [[4, 3, 2], *rare([3], [3, 2])])
@pytest.mark.parametrize("how", [Inference(4, 0.3, 0.2), Inference(0), Inference(3, 0.0, 0.0)])
def test_inference_is_the_loop_of_the_paper(sizes, how):
    machine = machine_of(sizes)
    got = inferred(machine, jnp.asarray(X), how)
    for row, x in enumerate(X):
        for layer, expected in zip(got, Plain(machine).infer(x, how)[1:], strict=True):
            np.testing.assert_allclose(layer[row], expected, rtol=ROUNDING)
    if how.N == 0 or how.delta == how.alpha == 0:
        jax.tree.map(np.testing.assert_array_equal, got, encoded(machine, jnp.asarray(X)))


@pytest.mark.parametrize("tied", [True, False])
def test_a_linear_step_is_the_exact_gradient_with_tied_weights_and_w_x_minus_v_h_without(tied):
    machine, x = linear_machine(tied), jnp.asarray(X)
    state = start(machine, x)
    h = state.h[0] + 0.5  # somewhere else
    state = state._replace(h=[h], below=[machine.g[0](h)])
    moved = step(machine, x, state, Inference(1, 1.0, 0.0)).h[0] - h
    w, v = (np.asarray(m[0].w[...], float) for m in (machine.f, machine.g))
    expected = (np.asarray(x, float) - np.asarray(h, float) @ v) @ w  # W (x - V h), for rows
    np.testing.assert_allclose(moved, expected, rtol=ROUNDING, atol=ROUNDING)

    def log_p(h):
        return -0.5 * jnp.sum((x - machine.g[0](h)) ** 2)

    difference = np.abs(np.asarray(jax.grad(log_p)(h)) - np.asarray(moved)).max()
    assert (difference < ROUNDING) == tied


def test_with_the_pseudoinverse_one_step_lands_on_the_least_squares_solution():
    machine, x = linear_machine(tied=False), jnp.asarray(X)
    v = np.asarray(machine.g[0].w[...], float)
    machine.f[0].w[...] = jnp.asarray(np.linalg.pinv(v), jnp.float32)
    state = start(machine, x)
    h = state.h[0] + 0.5
    state = state._replace(h=[h], below=[machine.g[0](h)])
    got = step(machine, x, state, Inference(1, 1.0, 0.0)).h[0]
    np.testing.assert_allclose(got, X @ np.linalg.pinv(v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "rises"), [(1.9, True), (2.1, False)])
def test_tied_linear_inference_climbs_as_far_as_its_step_allows(share, rises):
    machine = linear_machine(tied=True)
    v = np.asarray(machine.g[0].w[...], float)
    delta = share / np.linalg.eigvalsh(v @ v.T).max()
    rng = np.random.default_rng(5)
    x, h = jnp.asarray(X), jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    state, values = start(machine, x)._replace(h=[h], below=[machine.g[0](h)]), []
    for _ in range(40):
        values.append(np.asarray(log_p_terms(x, state)[0], float))
        state = step(machine, x, state, Inference(1, delta, 0.0))
    climbs = np.diff(values, axis=0) >= -1e-5 * np.abs(values[1:])
    assert climbs.all() == rises


def test_one_training_step_is_the_delta_rule_of_the_paper():
    machine, how = machine_of(), Inference(4, 0.3, 0.2)
    structure, params = split(machine)

    def loss(params):
        return training.targetprop(
            jax.random.key(0), bind(structure, params), jnp.asarray(X), inference=how, noise=SILENT
        )

    (value, info), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    got, plain = bind(structure, grads), Plain(machine)
    expected = {(side, n): 0 for side in "fg" for n in (1, 2)}
    total = 0.0
    for x in X.astype(float):
        h = plain.infer(x, how)
        for n in (1, 2):
            for side, source, target in (("f", h[n - 1], h[n]), ("g", h[n], h[n - 1])):
                w, b, unit = (plain.up if side == "f" else plain.down)[n - 1]
                a = source @ w + b
                error = PHI[unit](a) - target
                total += (error**2).sum() / len(X)
                expected[side, n] += 2 * np.outer(source, error * SLOPE[unit](a)) / len(X)
    np.testing.assert_allclose(value, total, rtol=ROUNDING)
    for (side, n), gradient in expected.items():
        np.testing.assert_allclose(getattr(got, side)[n - 1].w[...], gradient, rtol=1e-4, atol=1e-6)
    h = [plain.infer(x, how) for x in X.astype(float)]
    mismatch = [((one[1] - plain.g(2, one[2])) ** 2).sum() for one in h]
    np.testing.assert_allclose(info.mismatch, mismatch, rtol=1e-4)


def test_no_derivative_passes_from_one_map_to_another():
    """The error of each map moves that map alone, as much as the whole loss moves it."""
    structure, params = split(machine_of())
    options = {"inference": Inference(3, 0.3, 0.2), "noise": Noise(0.3, 0.3, 3)}
    key = jax.random.key(1)

    def errors(params):
        machine = bind(structure, params)
        return training.map_errors(key, machine, jnp.asarray(X), **options)[0].mean(axis=-1)

    def loss(params):
        return training.targetprop(key, bind(structure, params), jnp.asarray(X), **options)[0]

    each, whole = jax.jit(lambda p: (jax.jacrev(errors)(p), jax.grad(loss)(p)))(params)
    whole = dict(zip(parameter_names(params), jax.tree.leaves(whole), strict=True))
    for name, jacobian in zip(parameter_names(params), jax.tree.leaves(each), strict=True):
        jacobian = np.asarray(jacobian)
        for i in range(len(SIZES)):
            for j, side in enumerate("fg"):
                if name.startswith(f"{side}.{i}."):
                    np.testing.assert_allclose(jacobian[i, j], whole[name], rtol=1e-5)
                    assert np.abs(jacobian[i, j]).max() > 0
                else:
                    assert not jacobian[i, j].any(), (name, side, i)
    assert not np.asarray(whole["top_mean"]).any()
    assert not np.asarray(whole["top_variance"]).any()


def test_spikes_have_the_mean_and_variance_of_bernoulli_draws_and_clip():
    top = jnp.asarray([[0.3, -0.2, 1.3]] * 20_000)
    x = jnp.zeros((20_000, 1))
    got = np.asarray(corrupted(jax.random.key(0), [x, top], noise=Noise(0, 0, 3))[1], float)
    assert set(np.round(got.ravel() * 3).astype(int)) == {0, 1, 2, 3}
    np.testing.assert_allclose(got * 3, np.round(got * 3), atol=1e-6)
    p, n = 0.3, len(top)
    assert abs(got[:, 0].mean() - p) < 5 * np.sqrt(p * (1 - p) / 3 / n)
    squares = (got[:, 0] - p) ** 2
    assert abs(squares.mean() - p * (1 - p) / 3) < 5 * squares.std() / np.sqrt(n)
    assert (got[:, 1] == 0).all()
    assert (got[:, 2] == 1).all()


def test_gaussian_noise_has_the_scale_that_was_asked_for():
    layers = [jnp.zeros((5000, 2)), jnp.zeros((5000, 3)), jnp.full((5000, 1), 0.5)]
    x, h, top = corrupted(jax.random.key(1), layers, noise=Noise(0.4, 0.7, 0))
    for values, scale in ((x, 0.4), (h, 0.7)):
        square = np.asarray(values, float) ** 2
        assert abs(square.mean() - scale**2) < 5 * square.std() / np.sqrt(square.size)
    np.testing.assert_array_equal(top, layers[2])


@pytest.mark.long
def test_langevin_noise_moves_every_layer_by_its_scale_in_each_step():
    machine, x = machine_of(), jnp.zeros((4000, VISIBLE))
    how = Inference(3, 0.0, 0.0, langevin=0.2)
    moved = inferred(machine, x, how, key=jax.random.key(2))
    for layer, still in zip(moved, encoded(machine, x), strict=True):
        square = np.asarray(layer - still, float) ** 2
        assert abs(square.mean() - 3 * 0.04) < 5 * square.std() / np.sqrt(square.size)


def test_the_path_ends_where_inference_does_and_its_terms_are_log_p():
    machine, how = machine_of(), Inference(4, 0.3, 0.2)
    state, path = jax.jit(infer_path, static_argnums=2)(machine, jnp.asarray(X), how)
    for got, expected in zip(state.h, inferred(machine, jnp.asarray(X), how), strict=True):
        np.testing.assert_allclose(got, expected, rtol=ROUNDING)
    plain = Plain(machine)
    assert path.shape == (5, 2, 4)
    for n in range(5):
        for row, x in enumerate(X.astype(float)):
            h = plain.infer(x, how._replace(N=n))
            terms = [-0.5 * ((h[k - 1] - plain.g(k, h[k])) ** 2).sum() for k in (1, 2)]
            np.testing.assert_allclose(path[n, :, row], terms, rtol=1e-4, atol=1e-6)


def test_the_top_prior_has_the_moments_of_the_inferred_tops():
    machine, how = machine_of(), Inference(4, 0.3, 0.2)
    sums = moments(machine, jnp.asarray(X), how=how)
    structure, params = split(machine)
    new = bind(structure, training.with_top(structure, params, np.asarray(sums), len(X)))
    assert (np.asarray(machine.top_variance[...]) == 1).all()  # what was given has not changed
    tops = np.array([Plain(machine).infer(x, how)[2] for x in X.astype(float)])
    np.testing.assert_allclose(new.top_mean[...], tops.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(new.top_variance[...], tops.var(axis=0), rtol=1e-2)
    many = drawn(jax.random.key(0), new, samples=5, variance=4.0)
    noise = np.asarray(jax.random.normal(jax.random.key(0), (5, 2)), float)
    plain = Plain(machine)
    for got, e in zip(many, noise, strict=True):
        h = np.asarray(new.top_mean[...]) + 2 * np.sqrt(np.asarray(new.top_variance[...])) * e
        np.testing.assert_allclose(got, plain.g(1, plain.g(2, h)), rtol=ROUNDING)


def test_generation_is_the_loop_of_the_paper():
    machine, how = machine_of(), Inference(4, 0.3, 0.2)
    key = jax.random.key(3)
    x = np.asarray(drawn(key, machine, samples=3, variance=4.0), float)
    none = generated(key, machine, samples=3, variance=4.0, rounds=0, inference=how)
    np.testing.assert_array_equal(none, x)
    plain = Plain(machine)
    for _ in range(2):
        x = np.array([plain.g(1, plain.infer(row, how)[1]) for row in x])
    got = generated(key, machine, samples=3, variance=4.0, rounds=2, inference=how)
    np.testing.assert_allclose(got, x, rtol=ROUNDING)


def test_completion_is_the_loop_of_the_paper_and_what_is_observed_stays():
    machine, how = machine_of(), Inference(4, 0.3, 0.2)
    observed = np.array([[1, 0, 1, 0, 0]] * 3 + [[0, 1, 1, 1, 1]], bool)
    key = jax.random.key(4)
    got = completed(key, machine, jnp.asarray(X), jnp.asarray(observed), sweeps=2, inference=how)
    np.testing.assert_array_equal(np.asarray(got)[observed], X[observed])
    x, plain = np.where(observed, X, np.asarray(jax.random.uniform(key, X.shape))), Plain(machine)
    for _ in range(2):
        rebuilt = [
            plain.g(1, plain.infer(row, how, seen)[1])
            for row, seen in zip(x, observed, strict=True)
        ]
        x = np.where(observed, X, rebuilt)
    np.testing.assert_allclose(got, x, rtol=ROUNDING)


@pytest.mark.parametrize("seen", [True, False])
def test_with_all_observed_inpainting_infers_as_always_and_with_nothing_it_has_no_drive(seen):
    machine, x = machine_of(), jnp.asarray(X)
    how = Inference(3, 0.3, 0.0)  # without the pull from above, the drive alone moves h_1
    got = inferred(machine, x, how, jnp.full(X.shape, seen))[0]
    expected = inferred(machine, x, how)[0] if seen else encoded(machine, x)[0]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.long
def test_the_chain_rebuilds_each_layer_from_a_neighbour():
    machine, x = machine_of(), jnp.asarray(np.tile(X[:1], (64, 1)))
    one = np.asarray(chained(jax.random.key(0), machine, x, sweeps=1, noise=SILENT))
    h = encoded(machine, x)
    np.testing.assert_allclose(one, machine.g[0](h[0]), rtol=1e-6)
    two = np.asarray(chained(jax.random.key(0), machine, x, sweeps=2, noise=SILENT))
    above = machine.g[0](machine.g[1](h[1]))
    from_below, from_above = (
        np.isclose(two, np.asarray(choice), rtol=1e-5).all(axis=1) for choice in (one, above)
    )
    assert (from_below | from_above).all()
    assert 12 < from_above.sum() < 52  # of 64 fair coins: five standard deviations


@pytest.mark.long
def test_no_key_is_used_twice():
    structure, params = split(machine_of())
    with jax.debug_key_reuse(True):
        jax.jit(
            lambda key: training.targetprop(
                key,
                bind(structure, params),
                jnp.asarray(X),
                inference=Inference(2, langevin=0.1),
                noise=Noise(),
            )
        )(jax.random.key(0))


def test_the_first_weights_are_orthogonal():
    machine = TargetPropMachine(np.random.default_rng(0), 7, [5, 6], paper_units(2))
    for one in [*machine.f, *machine.g]:
        singular = np.linalg.svd(np.asarray(one.w[...], float), compute_uv=False)
        np.testing.assert_allclose(singular, 1, rtol=1e-5)
        assert not np.asarray(one.b[...]).any()
    assert [m.unit for m in machine.f] == ["softplus", "logistic"]
    assert [m.unit for m in machine.g] == ["logistic", "softplus"]


@pytest.mark.parametrize("weights", ["glorot", "authors"])
def test_the_first_weights_may_be_those_of_the_other_models(weights):
    sizes = [70, 60]  # many numbers, so that the largest lies close to the bound
    machine = TargetPropMachine(np.random.default_rng(0), 80, sizes, paper_units(2), weights)
    for one in [*machine.f, *machine.g]:
        inputs, units = one.w.shape
        bound = (6 / (inputs + units)) ** 0.5 / (inputs if weights == "authors" else 1)
        assert 0.99 * bound < np.abs(one.w[...]).max() <= bound
        assert not np.asarray(one.b[...]).any()


def products_of(jaxpr):
    """Multiply-adds of all matrix products, those of a loop's body as often as it runs."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shapes = [v.aval.shape for v in equation.invars]
            (contracted, _), _ = equation.params["dimension_numbers"]
            if min(map(len, shapes)) > 1:  # 1^T d, of a bias, is no product of matrices
                depth = np.prod([shapes[0][i] for i in contracted])
                total += int(depth * np.prod(equation.outvars[0].aval.shape))
        assert equation.primitive.name != "while"
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += equation.params.get("length", 1) * products_of(inner)
    return total


def test_a_training_step_pays_for_no_product_that_is_not_its_own():
    """f_1(x) once; in a step of inference f_l(g_l(h_l)), g_l(h_l) and, above the first, f_l(h_{l-1})."""
    structure, params = split(machine_of())
    N = 7

    def loss(params):
        return training.targetprop(
            jax.random.key(0),
            bind(structure, params),
            jnp.asarray(X),
            inference=Inference(N, 0.3, 0.1),
            noise=Noise(),
        )[0]

    first, second = VISIBLE * SIZES[0], SIZES[0] * SIZES[1]
    inference = 2 * (first + second) + N * (2 * first + 3 * second)
    learning = 2 * 2 * (first + second)  # f and g, forward and the gradient of their weights
    found = products_of(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
    assert found == len(X) * (inference + learning)
