"""The numerics against float64 and against a second implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import rare
from jax.extend.random import threefry_2x32

from bihm.errors import ConfigError
from bihm.kernels.bernoulli import bernoulli_log_prob, bernoulli_sample
from bihm.kernels.compiled import fast_jit
from bihm.kernels.noise import uniforms, unit_interval
from bihm.kernels.numerics import ess, euclidean_norm, log_mean_exp, normalised_weights
from bihm.kernels.products import affine, affine_of_constant, product, products_in

EPS = 2.0**-24  # the largest relative error of rounding to float32
LOGITS = np.array([-200.0, -30.0, -1.5, 0.0, 0.7, 25.0, 200.0], np.float32)


@pytest.fixture(params=["cpu", "gpu"])
def each_form(request, monkeypatch):
    """What is written for processors, and what is written for cards; both computed here."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_log_prob_is_exact_and_finite_at_any_logit(bit):
    h = np.full_like(LOGITS, bit)
    got = fast_jit(jax.vmap(bernoulli_log_prob))(h[:, None], LOGITS[:, None])
    a = LOGITS.astype(np.float64)
    ulp = 2.0**-24  # what rounding 1 + e to float32 can cost
    np.testing.assert_allclose(got, bit * a - np.logaddexp(0, a), rtol=1e-6, atol=ulp)
    other = -fast_jit(optax.sigmoid_binary_cross_entropy)(LOGITS, h)
    np.testing.assert_allclose(got, other, rtol=1e-6, atol=ulp)


@pytest.mark.parametrize("units", [13, 784, *rare(1, 16, 30, 384)])
def test_sums_over_any_number_of_units_agree_with_float64(units, each_form):
    rng = np.random.default_rng(units)
    a = rng.normal(0, 10, (5, units)).astype(np.float32)
    a[0] = 0.0  # where the factors whose product is taken are largest
    h = rng.integers(0, 2, (5, units)).astype(np.float32)
    got = fast_jit(bernoulli_log_prob)(h, a)
    exact = (h * a.astype(np.float64) - np.logaddexp(0, a.astype(np.float64))).sum(axis=1)
    # One sum of all units, whose partial sums are rounded one by one; that of groups is shorter.
    rtol = 2e-7 if each_form == "cpu" else 2 * EPS * np.sqrt(units)
    np.testing.assert_allclose(got, exact, rtol=rtol, atol=2e-5)


def test_noise_is_uniform_and_has_every_shape():
    draw = jax.jit(uniforms, static_argnums=(1, 2))
    first, *others = draw(jax.random.key(3), (40_001,), (3, 1, 2))
    assert [x.shape for x in others] == [(40_001, 1), (40_001, 2)]
    noise = np.concatenate([np.ravel(x) for x in (first, *others)]).astype(np.float64)
    assert 0 < noise.min() < noise.max() < 1
    for power in (1, 2, 3):
        error = noise.size**-0.5 * (noise**power).std()
        assert abs((noise**power).mean() - 1 / (power + 1)) < 5 * error
    correlation = np.corrcoef(noise[:-1], noise[1:])[0, 1]
    assert abs(correlation) < 5 / noise.size**0.5
    assert len(np.unique(noise)) > 0.98 * noise.size
    assert not np.array_equal(first[:5], draw(jax.random.key(4), (5,), (3,))[0])


def test_no_noise_is_zero_and_each_of_its_values_stands_for_its_surroundings():
    """Else a bit with q = 1e-18 would be drawn once in 2^23 times, and have the weight p / q."""
    words = jnp.arange(2**23, dtype=jnp.uint32) << 9
    numbers = np.asarray(jax.jit(unit_interval)(words))
    np.testing.assert_array_equal(numbers.astype(np.float64), (np.arange(2**23) + 0.5) / 2**23)
    drawn_of = fast_jit(lambda u, a: bernoulli_sample(u, jnp.full(2**23, a)).sum())
    for logit in (-40.0, -17.0, -10.0, 0.0, 10.0):
        drawn = drawn_of(numbers, np.float32(logit))
        assert abs(float(drawn) - 2**23 / (1 + np.exp(-logit))) <= 1


def test_more_random_numbers_than_a_key_has_are_refused():
    with pytest.raises(ConfigError, match=r"need more than 2\*\*32 random numbers at once"):
        uniforms(jax.random.key(0), (2**16,), [2**16, 1])


def test_noise_is_the_first_word_of_jaxs_own_threefry():
    key, n = jax.random.key(3), 11
    words = jax.random.bits(key, (2,), jnp.uint32)
    blocks = np.concatenate([np.arange(n, dtype=np.uint32), np.zeros(n, np.uint32)])
    first = np.asarray(threefry_2x32(words, blocks))[:n]
    expected = (first >> 9).astype(np.float32) * np.float32(2.0**-23) + np.float32(2.0**-24)
    drawn = jax.jit(uniforms, static_argnums=(1, 2))(key, (), (2, 9))
    got = np.concatenate([np.ravel(x) for x in drawn])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.usefixtures("each_form")
def test_its_derivative_is_the_residual_at_any_logit():
    h = (np.arange(len(LOGITS)) % 2).astype(np.float32)
    got = jax.grad(lambda a: bernoulli_log_prob(jnp.asarray(h), a))(jnp.asarray(LOGITS))
    a = LOGITS.astype(np.float64)
    ulp = np.finfo(np.float32).eps  # h - s(a) is a difference of numbers near one
    np.testing.assert_allclose(got, h - 1 / (1 + np.exp(-a)), rtol=1e-6, atol=ulp)


@pytest.mark.usefixtures("each_form")
def test_log_prob_broadcasts_data_over_samples_and_sums_its_gradient_back():
    x = np.array([[1, 0, 1]], np.float32)  # one example
    a = np.linspace(-1, 1, 5 * 1 * 3, dtype=np.float32).reshape(5, 1, 3)  # five samples
    assert jax.eval_shape(bernoulli_log_prob, x, a).shape == (5, 1)
    shared = np.array([[0.3, -0.2, 0.5]], np.float32)
    h = (a > 0).astype(np.float32)
    got = fast_jit(jax.grad(lambda b, h: bernoulli_log_prob(h, b).sum()))(shared, h)
    sigmoid = 1 / (1 + np.exp(-shared.astype(np.float64)))
    np.testing.assert_allclose(got, (h - sigmoid[None]).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_a_card_computes_the_log_probabilities_and_gradients_of_a_processor(shared, monkeypatch):
    """Of samples whose logits have all of their axes, and of samples that share them."""
    rng = np.random.default_rng(0)
    lead = (1, 3) if shared else (5, 3)
    h, a, g = (rng.normal(size=s).astype(np.float32) for s in ((5, 3, 30), (*lead, 30), (5, 3)))
    h = (h > 0).astype(np.float32)
    both = []
    for platform in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)

        @fast_jit
        def value_and_pulled(h, a, g):
            value, pull = jax.vjp(lambda a: bernoulli_log_prob(h, a), a)
            return value, pull(g)[0]

        both.append(value_and_pulled(h, a, g))
    np.testing.assert_allclose(both[0][0], both[1][0], rtol=2 * EPS * np.sqrt(30))
    np.testing.assert_array_equal(both[0][1], both[1][1])


def test_samples_follow_their_logits():
    noise = np.random.default_rng(0).random((40_000, 3), np.float32)
    logits = np.array([[-2.0, 0.0, 3.0]], np.float32)
    mean = np.asarray(fast_jit(bernoulli_sample)(noise, logits)).mean(axis=0)
    p = 1 / (1 + np.exp(-logits[0]))
    assert (np.abs(mean - p) < 5 * np.sqrt(p * (1 - p) / 40_000)).all()


def test_affine_adds_the_bias_to_every_row():
    y, w, b = jnp.ones((2, 3, 4)), jnp.ones((4, 5)), jnp.arange(5.0)
    np.testing.assert_allclose(affine(y, w, b), np.broadcast_to(4 + np.arange(5), (2, 3, 5)))


@pytest.mark.usefixtures("each_form")
def test_the_derivative_of_an_affine_function_of_bits_is_that_of_any_other():
    rng = np.random.default_rng(0)
    y = jnp.asarray(rng.integers(0, 2, (2, 3, 4)), jnp.float32)
    w, b, d = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in [(4, 5), (5,), (2, 3, 5)])
    got, expected = (
        fast_jit(jax.grad(lambda w, b, f=f: jnp.sum(d * f(y, w, b)), argnums=(0, 1)))(w, b)
        for f in (affine_of_constant, affine)
    )
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-5), got, expected)


def test_a_product_in_bfloat16_rounds_its_factors_and_sums_in_float32():
    y, w = jnp.ones((2, 4096)), jnp.full((4096, 3), 1 + 2.0**-7)  # a number that bfloat16 has
    with products_in("bf16"):
        np.testing.assert_array_equal(product(y, w), y @ w)
        assert (product(y, w + 2.0**-12) == y @ w).all()
    assert (product(y, w + 2.0**-12) > y @ w).all()


@pytest.mark.usefixtures("each_form")
@pytest.mark.parametrize("numbers", [1, 13, 4096])
def test_a_norm_is_euclidean_for_any_number_of_numbers(numbers):
    x = np.random.default_rng(0).normal(size=numbers).astype(np.float32)
    both = [jnp.asarray(x), jnp.full((2, 2), 3.0)]
    np.testing.assert_allclose(euclidean_norm(both), np.hypot(np.linalg.norm(x), 6), rtol=1e-6)


def test_means_weights_and_ess_in_log_space():
    log_w = (np.random.default_rng(0).normal(0, 3, (6, 4)) - 400).astype(np.float32)
    log_w[:, 3] = -400.0
    w = np.exp(log_w.astype(np.float64) + 400)

    @fast_jit
    def all_three(log_w):
        return log_mean_exp(log_w), normalised_weights(log_w), ess(log_w)

    log_mean, weights, size = all_three(log_w)
    np.testing.assert_allclose(log_mean, np.log(w.mean(axis=0)) - 400, rtol=1e-6)
    np.testing.assert_allclose(weights, w / w.sum(axis=0), rtol=1e-3)
    np.testing.assert_allclose(size, w.sum(0) ** 2 / (6 * (w**2).sum(0)), rtol=1e-3)
    assert float(size[3]) == pytest.approx(1, rel=1e-4)


def test_weights_are_constants_to_the_gradient():
    grad = jax.grad(lambda v: normalised_weights(v)[0])(jnp.asarray([0.1, 0.7]))
    np.testing.assert_array_equal(grad, [0, 0])
