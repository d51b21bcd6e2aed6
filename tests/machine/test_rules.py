"""Each rule's loss, its derivative and what it reports, in float64 from weights that are given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_machine import VISIBLE, tiny_machine

from bihm.machine.machine import HelmholtzMachine
from bihm.machine.rules import RULES, make_rule

K, BATCH, DREAMS = 5, 3, 2
RNG = np.random.default_rng(0)
LOG_P, LOG_Q = (RNG.normal(-3, 1.5, (K, BATCH)).astype(np.float32) for _ in range(2))
LOG_Q_OF_DREAMS = RNG.normal(-2, 1, DREAMS).astype(np.float32)
X = jnp.zeros((BATCH, VISIBLE))
LOG_W = LOG_P.astype(np.float64) - LOG_Q


@pytest.fixture
def told(monkeypatch):
    """Make every machine draw the same and say these numbers of it; note how many dreams were asked for."""
    asked = []

    def install(log_p, log_q, of_dreams):
        def dream(machine, key, samples):
            asked.append(samples)
            return jnp.zeros((samples, VISIBLE)), "dreamt"

        def say_q(machine, x, h):
            assert h == "dreamt"
            return of_dreams

        h = [jnp.zeros((K, BATCH, 3))]
        monkeypatch.setattr(HelmholtzMachine, "sample_q", lambda m, key, x, K: (h, log_q))
        monkeypatch.setattr(HelmholtzMachine, "sample_p", dream)
        monkeypatch.setattr(HelmholtzMachine, "log_p", lambda m, x, h: log_p)
        monkeypatch.setattr(HelmholtzMachine, "log_q", say_q)

    install.asked = asked
    return install


def softmax(a):
    w = np.exp(a - a.max(axis=0))
    return w / w.sum(axis=0)


def mean_of_rows(surrogate):
    return -surrogate.sum(axis=0).mean()


W_P, W_STAR = softmax(LOG_W), softmax(LOG_W / 2)
SLEEP = -LOG_Q_OF_DREAMS.astype(np.float64).mean()
# For each rule: its loss, and the factors of log p, log q and log q of dreams in it.
EXPECTED = {
    ("bihm", ()): (
        mean_of_rows(W_STAR * LOG_P + (W_STAR - 1 / K) * LOG_Q),
        (-W_STAR / BATCH, -(W_STAR - 1 / K) / BATCH, 0),
    ),
    ("rws", (("q_update", "wake"),)): (
        mean_of_rows(W_P * LOG_P + W_P * LOG_Q),
        (-W_P / BATCH, -W_P / BATCH, 0),
    ),
    ("rws", (("q_update", "both"),)): (
        mean_of_rows(W_P * LOG_P + W_P * LOG_Q / 2) + SLEEP / 2,
        (-W_P / BATCH, -W_P / 2 / BATCH, -1 / 2 / DREAMS),
    ),
    ("rws", (("q_update", "sleep"),)): (
        mean_of_rows(W_P * LOG_P) + SLEEP,
        (-W_P / BATCH, 0, -1 / DREAMS),
    ),
    ("wake_sleep", ()): (
        -LOG_P.astype(np.float64).mean() + SLEEP,
        (-1 / K / BATCH, 0, -1 / DREAMS),
    ),
}


@pytest.mark.parametrize(("name", "options"), EXPECTED)
def test_loss_and_derivative_are_those_of_the_formula(name, options, told):
    machine = tiny_machine(sizes=[3])
    rule = make_rule(name, K=K, sleep_batch_size=DREAMS, **dict(options))

    def loss(*numbers):
        told(*numbers)
        return rule(jax.random.key(0), machine, X)[0]

    given = [jnp.asarray(a) for a in (LOG_P, LOG_Q, LOG_Q_OF_DREAMS)]
    value, derivative = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*given)
    expected, factors = EXPECTED[name, options]
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for got, factor in zip(derivative, factors, strict=True):
        np.testing.assert_allclose(got, np.broadcast_to(factor, got.shape), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("step", "beta"), [(0, 0), (30, 0.25), (60, 0.5), (120, 1), (1000, 1), (None, 1)]
)
@pytest.mark.parametrize(("name", "part"), [("bihm", 0.5), ("rws", 1)])
def test_latents_cost_little_while_a_rule_warms_up(name, part, step, beta, told, monkeypatch):
    told(jnp.asarray(LOG_P), jnp.asarray(LOG_Q), jnp.asarray(LOG_Q_OF_DREAMS))
    log_p_x = np.random.default_rng(1).normal(-2, 1, (K, BATCH)).astype(np.float32)
    monkeypatch.setattr(HelmholtzMachine, "log_p_visible", lambda m, x, h: jnp.asarray(log_p_x))
    options = {"q_update": "wake"} if name == "rws" else {}
    rule, machine = make_rule(name, K=K, warm_up=120, **options), tiny_machine(sizes=[3])
    (loss, info) = jax.jit(lambda key: rule(key, machine, X, step))(jax.random.key(0))
    W = softmax(part * (log_p_x + beta * (LOG_W - log_p_x)))  # p(x | h_1) (p(h) / q(h | x))^beta
    of_q = W - 1 / K if name == "bihm" else W
    np.testing.assert_allclose(loss, mean_of_rows(W * LOG_P + of_q * LOG_Q), rtol=1e-6)
    # What is reported is always that of the model itself.
    np.testing.assert_allclose(info.log_p, np.log(np.exp(LOG_W).mean(axis=0)), rtol=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_reports_of_each_row(name, told):
    """The numbers of `train/*` in the logs."""
    told(jnp.asarray(LOG_P), jnp.asarray(LOG_Q), jnp.asarray(LOG_Q_OF_DREAMS))
    rule, machine = make_rule(name, K=K, sleep_batch_size=DREAMS), tiny_machine(sizes=[3])
    _, info = jax.jit(lambda key: rule(key, machine, X))(jax.random.key(0))
    w = np.exp(LOG_W)
    expected = {
        "log_p": np.log(w.mean(axis=0)),
        "log_p_tilde_star": 2 * np.log(np.sqrt(w).mean(axis=0)),
        "ess_p": w.sum(axis=0) ** 2 / (K * (w**2).sum(axis=0)),
        "ess_p_star": np.sqrt(w).sum(axis=0) ** 2 / (K * w.sum(axis=0)),
    }
    assert list(info._fields) == list(expected)
    for field, value in expected.items():
        np.testing.assert_allclose(getattr(info, field), value, rtol=1e-5)


@pytest.mark.parametrize("name", ["rws", "wake_sleep"])
@pytest.mark.parametrize(("size", "dreams"), [(None, BATCH), (DREAMS, DREAMS)])
def test_a_step_dreams_as_many_rows_as_the_batch_has_unless_told(name, size, dreams, told):
    told(jnp.asarray(LOG_P), jnp.asarray(LOG_Q), jnp.asarray(LOG_Q_OF_DREAMS))
    options = {} if size is None else {"sleep_batch_size": size}
    rule, machine = make_rule(name, K=K, **options), tiny_machine(sizes=[3])
    jax.eval_shape(lambda key: rule(key, machine, X), jax.random.key(0))
    assert told.asked == [dreams]


def test_each_rule_says_what_it_reads_and_which_likelihood_it_ascends():
    sleep = {"sleep_batch_size"}
    warm_up = {"warm_up"}
    options = {"bihm": warm_up, "rws": {"q_update"} | sleep | warm_up, "wake_sleep": sleep}
    assert {name: spec.options for name, spec in RULES.items()} == options
    assert {name for name, spec in RULES.items() if spec.has_p_star} == {"bihm"}
    stars = {name for name, spec in RULES.items() if spec.likelihood == "log_p_tilde_star"}
    assert stars == {"bihm"}
    assert RULES["rws"].likelihood == RULES["wake_sleep"].likelihood == "log_p"
