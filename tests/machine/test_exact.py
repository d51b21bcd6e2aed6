"""The exact checks 1 to 6 of p, q, the rules and the estimators, against sums over all states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import conditional_table, exact, gradient, latents, states
from tiny_machine import VISIBLE, tiny_machine

from bihm.kernels.compiled import fast_jit
from bihm.machine.layers import LAYERS
from bihm.machine.machine import bind, split
from bihm.machine.rules import make_rule
from bihm.run.estimates.splits import estimate_log_z, estimate_split

SIGMAS = 5
# Together these have every type in p, in q, and as a prior.
PLAIN = ("sbn", "sbn")
ONE = (["darn", "sbn", "dsbn", "nade"], ["nade", "darn", "sbn"])
TWO = (["nade", "dsbn", "darn", "darn"], ["dsbn", "sbn", "nade"])


def mixes(*quick):
    """All mixes; those that are not `quick` only when long tests are asked for."""
    return [
        mix if mix in quick else pytest.param(*mix, marks=pytest.mark.long)
        for mix in (PLAIN, ONE, TWO)
    ]


def plain_machine():
    """Of the two latent layers that a step between latents takes: what compiles soonest."""
    return tiny_machine(sizes=[4, 3])


def mixed_machine(p, q):
    """A machine whose weights w have moments that 1000 samples can estimate.

    At the same scale of the parameters, p and q of stronger layers lie further apart.
    """
    return plain_machine() if p == "sbn" else tiny_machine(p, q, seed=1, scale=0.35)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("inputs", [3, 0])
def test_1_conditionals_sum_to_one_and_agree_with_the_oracle(kind, inputs):
    machine = tiny_machine(kind, kind, visible=4, sizes=[3])
    layer = machine.p[0] if inputs else machine.p[1]
    assert layer.n_inputs == inputs
    y, h = (states(n).astype(np.float32) for n in (inputs, layer.n_units))
    log_prob = fast_jit(layer.log_prob)(h[:, None, :], y[None, :, :])
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_prob).T, conditional_table(layer), rtol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_samples_of_a_conditional_follow_its_table(kind):
    layer = tiny_machine(kind, kind, visible=4, sizes=[3]).p[0]
    draws = 20_000
    y = np.array([[1, 0, 1]], np.float32)
    noise = np.random.default_rng(1).random((draws, layer.n_units), np.float32)
    h, log_prob = fast_jit(layer.sample_and_log_prob)(noise, y)
    index = np.asarray(h) @ 2 ** np.arange(layer.n_units)[::-1]
    counts = np.bincount(index.astype(int), minlength=2**layer.n_units)
    expected = conditional_table(layer)[0b101]
    error = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(counts / draws - expected) <= SIGMAS * error).all()
    np.testing.assert_allclose(np.exp(log_prob), expected[index.astype(int)], rtol=1e-5)
    np.testing.assert_array_equal(fast_jit(layer.sample)(noise, y), h)


@pytest.mark.parametrize(("p", "q"), mixes(ONE))
def test_the_joint_agrees_with_the_oracle(p, q):
    machine = mixed_machine(p, q)
    truth = exact(machine)
    h = np.split(latents(machine), np.cumsum(machine.sizes)[:-1], axis=1)
    h = [jnp.asarray(a, jnp.float32)[:, None, :] for a in h]
    x = jnp.asarray(states(VISIBLE), jnp.float32)[None, :, :]
    log_p, log_q = jax.jit(lambda x, h: (machine.log_p(x, h), machine.log_q(x, h)))(x, h)
    np.testing.assert_allclose(np.exp(log_p).T, truth.p, rtol=1e-4)
    np.testing.assert_allclose(np.exp(log_q).T, truth.q, rtol=1e-4)


def estimates(machine, K, repeats, block=None):
    """Independent estimates of every x, each field (repeats, 2^visible), float64."""
    structure, params = split(machine)
    rows = np.tile(states(machine.n_visible), (repeats, 1)).astype(np.uint8)
    got = estimate_split(jax.random.key(K), structure, params, rows, K, block=block, k_hat=False)
    fields = got._asdict().items()
    return got._replace(
        **{name: a.astype(np.float64).reshape(repeats, -1) for name, a in fields if a is not None}
    )


def assert_mean(values, expected):
    """The mean over the leading axis agrees within standard errors, entry by entry."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert (np.abs(values.mean(axis=0) - expected) <= SIGMAS * error + 1e-6).all()


@pytest.mark.parametrize(("p", "q"), mixes(PLAIN))
def test_2_p_sums_to_one_and_its_estimate_is_unbiased_and_rises_with_K(p, q):
    machine = mixed_machine(p, q)
    truth = exact(machine)
    assert truth.p.sum() == pytest.approx(1)
    gaps = []
    for K in (1, 10, 100):
        got = estimates(machine, K, repeats=1000, block=10).log_p
        assert_mean(np.exp(got), np.exp(truth.log_p))  # the weights' mean is unbiased for any K
        gaps.append((got - truth.log_p).mean())
    assert gaps[0] < gaps[1] < gaps[2] < 0


@pytest.mark.parametrize(("p", "q"), mixes(PLAIN))
def test_3_p_star_is_a_bound_and_sums_to_one_with_its_normaliser(p, q):
    machine = mixed_machine(p, q)
    truth = exact(machine)
    assert (truth.log_p_tilde_star <= truth.log_p + 1e-12).all()
    assert np.exp(truth.log_p_tilde_star - truth.two_log_z).sum() == pytest.approx(1)
    got = estimates(machine, 30, repeats=200, block=10)
    assert_mean(np.exp(got.log_p_tilde_star / 2), np.exp(truth.log_p_tilde_star / 2))


@pytest.mark.parametrize("inner", [10, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(("p", "q"), mixes(PLAIN))
def test_3_its_normaliser_is_estimated_without_bias(p, q, inner):
    machine = mixed_machine(p, q)
    z = estimate_log_z(jax.random.key(inner), *split(machine), 20_000, inner)
    assert z.outer == 20_000
    assert z.low < z.mean < z.high <= 0
    assert abs(z.mean - exact(machine).two_log_z) <= SIGMAS * z.stderr
    assert z.stderr < 0.02


@pytest.mark.long
def test_ess_converges_to_its_exact_value():
    machine = tiny_machine(scale=0.25)  # the fourth moment of w must be tame for p's ESS
    truth = exact(machine)
    r = truth.p / truth.q
    got = estimates(machine, 5000, repeats=20)  # a ratio: its bias is O(1 / K)
    assert_mean(got.ess_p, (truth.q * r).sum(1) ** 2 / (truth.q * r**2).sum(1))
    assert_mean(got.ess_p_star, (truth.q * r**0.5).sum(1) ** 2 / (truth.q * r).sum(1))


def mean_gradient(machine, rule, x, draws, seed=0):
    """The mean of `draws` one-batch gradients of -loss, and its standard error, leaf by leaf."""
    structure, params = split(machine)

    def grad(key):
        return jax.grad(lambda w: -rule(key, bind(structure, w), x)[0])(params)

    keys = jax.random.split(jax.random.key(seed), draws)
    grads = jax.jit(jax.vmap(grad))(keys)
    leaves = [np.asarray(g, np.float64) for g in jax.tree.leaves(grads)]
    return [(g.mean(axis=0), g.std(axis=0, ddof=1) / np.sqrt(draws)) for g in leaves]


def assert_gradient(machine, rule, x, value, draws=500):
    """The mean one-batch gradient equals that of `value`, entry by entry, within standard errors."""
    truth = gradient(machine, value)
    assert max(np.abs(t).max() for t in truth) > 0.01
    for (mean, error), expected in zip(mean_gradient(machine, rule, x, draws), truth, strict=True):
        # Where a gradient is the same in every draw its error is rounding alone.
        assert (np.abs(mean - expected) <= SIGMAS * error + 1e-5).all()


X = jnp.asarray([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 1, 0, 1, 1]], jnp.float32)


def row_index(x):
    return (np.asarray(x) @ 2 ** np.arange(VISIBLE)[::-1]).astype(int)


@pytest.mark.parametrize(("p", "q"), mixes(PLAIN))
def test_4_bihm_ascends_log_p_tilde_star(p, q):
    machine = mixed_machine(p, q)
    rows = row_index(X)
    rule = make_rule("bihm", K=1000)
    assert_gradient(machine, rule, X, lambda m: exact(m).log_p_tilde_star[rows].mean())


@pytest.mark.parametrize(("p", "q"), mixes())  # the quick one is the mix of both phases, below
def test_4_rws_ascends_log_p_in_p(p, q):
    machine = mixed_machine(p, q)
    rows, fixed = row_index(X), exact(machine)
    rule = make_rule("rws", K=4000, q_update="wake")

    def value(m):
        # p: log p(x). q: the posterior's weights on log q, as wake-phase q has it.
        now = exact(m)
        posterior = fixed.p / fixed.p.sum(axis=1, keepdims=True)
        return (now.log_p + (posterior * np.log(now.q)).sum(axis=1))[rows].mean()

    assert_gradient(machine, rule, X, value, draws=125)  # large K: the bias is of order 1 / K


@pytest.mark.parametrize("K", [pytest.param(1, marks=pytest.mark.long), 3])
@pytest.mark.parametrize(("p", "q"), mixes(PLAIN))
def test_4_wake_sleep_ascends_its_two_objectives(p, q, K):
    machine = mixed_machine(p, q)
    rows, fixed = row_index(X), exact(machine)
    rule = make_rule("wake_sleep", K=K, sleep_batch_size=2)

    def value(m):
        now = exact(m)
        wake = (fixed.q * np.log(now.p)).sum(axis=1)[rows].mean()
        sleep = (fixed.p * np.log(now.q)).sum()
        return wake + sleep

    assert_gradient(machine, rule, X, value, draws=20_000)


def test_4_rws_mixes_wake_and_sleep_for_q():
    machine = plain_machine()
    rows, fixed = row_index(X), exact(machine)
    posterior = fixed.p / fixed.p.sum(axis=1, keepdims=True)

    def value(m):
        now = exact(m)
        wake = (posterior * np.log(now.q)).sum(axis=1)[rows].mean()
        sleep = (fixed.p * np.log(now.q)).sum()
        return now.log_p[rows].mean() + (wake + sleep) / 2

    rule = make_rule("rws", K=4000, q_update="both", sleep_batch_size=24)
    assert_gradient(machine, rule, X, value, draws=125)


@pytest.mark.long
def test_rws_with_one_sample_and_sleep_is_wake_sleep():
    machine = tiny_machine()
    structure, params = split(machine)
    rws = make_rule("rws", K=1, q_update="sleep", sleep_batch_size=4)
    classic = make_rule("wake_sleep", K=1, sleep_batch_size=4)
    key = jax.random.key(5)
    grads = [
        jax.jit(jax.grad(lambda w, f=f: f(key, bind(structure, w), X)[0]))(params)
        for f in (rws, classic)
    ]
    jax.tree.map(np.testing.assert_array_equal, *grads)


@pytest.mark.long
def test_5_the_baseline_of_q_changes_the_variance_and_not_the_mean():
    """W_k - 1/K against W_k: E_q[grad log q] = 0."""
    machine = tiny_machine()
    K = 5

    def plain(key, machine, x):
        # bihm's own gradient plus the term 1/K sum_k log q(h^k | x) that its baseline took away.
        loss, info = make_rule("bihm", K=K)(key, machine, x)
        _, log_q = machine.sample_q(key, x, K)
        return loss - jnp.mean(log_q), info

    with_baseline = mean_gradient(machine, make_rule("bihm", K=K), X, 20_000)
    without = mean_gradient(machine, plain, X, 20_000, seed=1)
    for (a, error_a), (b, error_b) in zip(with_baseline, without, strict=True):
        assert (np.abs(a - b) <= SIGMAS * np.hypot(error_a, error_b) + 1e-5).all()
    assert sum(e.sum() for _, e in with_baseline) < sum(e.sum() for _, e in without)


@pytest.mark.long
def test_6_with_the_exact_posterior_nothing_is_lost():
    """One latent unit per visible-independent block makes the posterior an sbn: q can equal it."""
    machine = tiny_machine(visible=3, sizes=[1])
    w, b = (np.asarray(a[...], np.float64) for a in (machine.p[0].w, machine.p[0].b))
    prior = float(machine.p[1].b[0])
    # p(h=1|x) has log-odds prior + sum_i x_i w_i - (softplus(b_i + w_i) - softplus(b_i)).
    machine.q[0].w[...] = jnp.asarray(w.T, jnp.float32)
    shift = np.logaddexp(0, b + w[0]) - np.logaddexp(0, b)
    machine.q[0].b[...] = jnp.asarray([prior - shift.sum()], jnp.float32)
    truth = exact(machine)
    assert truth.two_log_z == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(truth.log_p_tilde_star, truth.log_p, atol=1e-6)
    structure, params = split(machine)
    got = estimate_split(jax.random.key(0), structure, params, states(3).astype(np.uint8), 7)
    np.testing.assert_allclose(got.ess_p, 1, atol=1e-5)
    np.testing.assert_allclose(got.ess_p_star, 1, atol=1e-5)
    np.testing.assert_allclose(got.log_p, truth.log_p, atol=1e-5)
    z = estimate_log_z(jax.random.key(0), structure, params, 50, 2)
    assert z.mean == pytest.approx(0, abs=1e-5)
    assert z.stderr < 1e-5


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "sbn" else pytest.param(kind, marks=pytest.mark.long) for kind in LAYERS],
)
def test_6_with_the_prior_as_the_posterior_nothing_is_lost(kind):
    """Where x does not depend on h the posterior is the prior, which q has if its numbers are the same."""
    machine = tiny_machine(kind, kind, visible=3, sizes=[2])
    prior, bottom, q = machine.p[1], machine.p[0], machine.q[0]
    for layer in (bottom, q):
        layer.w[...] = jnp.zeros_like(layer.w[...])
        if kind == "nade":
            layer.u[...] = jnp.zeros_like(layer.u[...])
    for name in {"darn": "ab", "nade": "bcvm"}.get(kind, "b"):
        getattr(q, name)[...] = getattr(prior, name)[...]
    truth = exact(machine)
    assert truth.two_log_z == pytest.approx(0, abs=1e-6)
    structure, params = split(machine)
    got = estimate_split(jax.random.key(0), structure, params, states(3).astype(np.uint8), 7)
    np.testing.assert_allclose(got.ess_p, 1, atol=1e-5)
    np.testing.assert_allclose(got.ess_p_star, 1, atol=1e-5)
    np.testing.assert_allclose(got.log_p, truth.log_p, atol=1e-5)
    z = estimate_log_z(jax.random.key(0), structure, params, 50, 2)
    assert z.mean == pytest.approx(0, abs=1e-5)
