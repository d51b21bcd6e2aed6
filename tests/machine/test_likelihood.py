"""The sums behind the estimates, on weights whose answers are known in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_machine import VISIBLE, tiny_machine, whole_tile

from bihm.errors import NumbersError
from bihm.machine.likelihood import (
    Estimates,
    add_weights,
    count_blocks,
    estimates_of,
    log_weights,
    log_z_terms,
    log_z_tile,
    mean_and_sem,
    no_weights,
    summarise_log_z,
)
from bihm.machine.machine import bind, split
from bihm.records.results import block_of, number, table
from bihm.run.estimates.splits import block_size


def log_mean_exp(a):
    return np.logaddexp.reduce(a, axis=0) - np.log(len(a))


def exact(log_w):
    log_w = np.asarray(log_w, np.float64)
    one, half, two = (log_mean_exp(scale * log_w) for scale in (1, 0.5, 2))
    return Estimates(one, 2 * half, np.exp(2 * one - two), np.exp(2 * half - one))


@pytest.mark.parametrize("level", [0.0, -90.0, -600.0])
@pytest.mark.parametrize("block", [1, 10, 100])
def test_many_blocks_lose_nothing(level, block):
    """Blocks are many where K is large: what each adds must not depend on how small the weights are."""
    K, rows = 20_000, 3
    log_w = np.random.default_rng(0).normal(level, 1.5, (K, rows)).astype(np.float32)

    @jax.jit
    def stream(blocks):
        sums, _ = jax.lax.scan(lambda s, b: (add_weights(s, b), None), no_weights(rows), blocks)
        return estimates_of(sums, jnp.asarray(K))

    got, expected = stream(log_w.reshape(-1, block, rows)), exact(log_w)
    for name in ("log_p", "log_p_tilde_star"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), atol=1e-4)
    for name in ("ess_p", "ess_p_star"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-4)


def test_a_sample_that_is_larger_than_all_before_scales_them_down():
    log_w = np.asarray([[-500.0], [-3.0], [-200.0], [-2.0], [-jnp.inf]], np.float32)
    sums = no_weights(1)
    for row in log_w:
        sums = add_weights(sums, jnp.asarray(row)[None])
    got, expected = estimates_of(sums, jnp.asarray(4)), exact(log_w[:4])
    np.testing.assert_allclose(got[:4], expected[:4], rtol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0, 400.0])
def test_terms_of_z_squared_agree_with_float64_for_any_weights(spread):
    """Also where all but one weight vanish beside it, and whichever comes first."""
    log_w = np.random.default_rng(1).normal(-90, spread, (11, 500)).astype(np.float32)
    root = log_w.astype(np.float64) / 2
    pairs = [root[j] + root[k] for j in range(11) for k in range(j)]
    expected = np.log(2 / 10) + np.logaddexp.reduce(pairs) - np.logaddexp.reduce(2 * root)
    got = jax.jit(log_z_terms)(log_w)
    np.testing.assert_allclose(got, expected, atol=3e-6 * max(90, spread))
    assert (got <= 1e-5).all()


@pytest.mark.parametrize("K", [1, 99, 100, 101, 2**31 - 1])
def test_blocks_reach_k_and_not_a_block_further(K):
    block = block_size(K)
    blocks = int(jax.jit(count_blocks, static_argnums=1)(jnp.asarray(K, jnp.int32), block))
    assert (blocks - 1) * block < K <= blocks * block


def test_the_error_of_one_row_is_unknown():
    one = Estimates(*(np.asarray([-2.0]) for _ in range(4)))
    assert np.isnan(mean_and_sem(one.log_p)[1])
    (line,) = table({"test": block_of(one, 3, None)})
    assert "log_p -2.000 +- ?" in line
    saved = block_of(one, 3, None) | {"log_p": {"mean": -2.0, "sem": None}}  # as JSON has it
    assert table({"test": saved}) == [line]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_estimates_that_are_not_finite_are_no_results(value):
    broken = Estimates(*(np.asarray([-2.0, value]) for _ in range(4)))
    with pytest.raises(NumbersError, match=r"the estimate of log_p is (nan|-inf)"):
        block_of(broken, 3, None)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("value", "K"), [(-np.inf, 3), (np.nan, 3), (-1e32, 3), (-(2.0**24), 3)])
def test_numbers_beyond_float32_are_no_results_and_no_warnings(value, K):
    broken = Estimates(*(np.asarray([value, value], np.float32) for _ in range(4)))
    with pytest.raises(NumbersError, match="the estimate of log_p is"):
        block_of(broken, K, None)
    with_z = block_of(Estimates(*(np.asarray([-2.0, -3.0]) for _ in range(4))), K, None)
    assert with_z["log_p"]["mean"] == -2.5
    assert not np.isfinite(summarise_log_z(np.full(3, -np.inf), 2).mean)


def test_no_number_is_wider_than_a_column():
    for value in (-1e32, -123456.0, 2.0**24, -25.123456, 1e-9, -3.4e38):
        assert len(number(value)) <= 10
    assert number(-25.1234) == "-25.123"
    block = block_of(Estimates(*(np.asarray([-9e6, -1e7]) for _ in range(4))), 10, None)
    assert max(map(len, table({"valid": block}))) < 100


FIELDS = Estimates._fields[:4]  # no k-hat of so few samples
SAMPLES, BLOCK, TILE_ROWS = 7, 3, 4  # the last of three blocks reaches two samples beyond K


def test_a_tile_counts_k_samples_and_not_one_of_those_beyond():
    """The same samples weighed in float64; each sample in or out changes every number of every row."""
    structure, params = split(tiny_machine(sizes=[3], scale=1.5))
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (TILE_ROWS, VISIBLE)), jnp.float32)
    key = jax.random.key(3)
    draw = jax.jit(lambda key: log_weights(key, bind(structure, params), x, BLOCK))
    drawn = np.concatenate([draw(jax.random.fold_in(key, i)) for i in range(3)])
    assert len(np.unique(drawn[:, 0])) > 1
    got = whole_tile(key, structure, params, x, SAMPLES, block=BLOCK)
    for field, values in zip(FIELDS, exact(drawn[:SAMPLES]), strict=False):
        np.testing.assert_allclose(getattr(got, field), values, rtol=1e-5, err_msg=field)
    for wrong in (SAMPLES - 1, SAMPLES + 1, len(drawn)):
        for field, values in zip(FIELDS, exact(drawn[:wrong]), strict=False):
            assert (np.abs(getattr(got, field) - values) > 1e-3 * np.abs(values)).any(), field


def test_2_log_z_of_a_tile_is_made_of_a_sample_of_p_and_fresh_ones_of_q():
    """The same samples by the equation, in float64: x and h_0 from p, h_1 .. h_M from q given that x."""
    structure, params = split(tiny_machine(sizes=[3], scale=1.0))
    machine, outer, inner = bind(structure, params), 50, 3

    @jax.jit
    def weights(key):
        outer_key, inner_key = jax.random.split(key)
        x, h = machine.sample_p(outer_key, outer)
        fresh, log_q = machine.sample_q(inner_key, x, inner)
        first = machine.log_p(x, h) - machine.log_q(x, h)
        return jnp.concatenate([first[None], machine.log_p(x, fresh) - log_q])

    w = np.exp(np.asarray(weights(jax.random.key(4)), np.float64))
    pairs = [np.sqrt(w[j] * w[k]) for j in range(inner + 1) for k in range(inner + 1) if j != k]
    got = log_z_tile(jax.random.key(4), structure, params, outer=outer, inner=inner)
    np.testing.assert_allclose(got, np.log(sum(pairs) / inner / w.sum(axis=0)), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, -2000.0])  # the second: far below what exp can hold
def test_2_log_z_and_its_error_are_those_of_the_terms(level):
    terms = np.array([0.9, 0.3, 0.9])
    z = summarise_log_z(np.log(terms) + level, inner=9)
    error = np.std(terms, ddof=1) / terms.mean() / np.sqrt(3)
    assert z.mean == pytest.approx(np.log(0.7) + level)
    assert z.stderr == pytest.approx(error)
    assert z.low == pytest.approx(z.mean - 1.96 * error)
    assert z.high == pytest.approx(min(0, z.mean + 1.96 * error))
    assert (z.high == 0) == (level == 0)  # Z^2 is at most one
    assert (z.outer, z.inner) == (3, 9)


def test_mean_and_error_of_a_split_are_numpys_in_float64():
    values = np.array([-1.0, -2.5, -7.0], np.float32)
    mean, sem = mean_and_sem(values)
    assert mean == pytest.approx(-3.5)
    assert sem == pytest.approx(np.std(values.astype(np.float64), ddof=1) / np.sqrt(3))
    many = np.full(10**5, 0.1, np.float32)  # in float32 the sum would be off by much more
    assert mean_and_sem(many)[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert mean_and_sem(np.array([-1.0, -3.0]))[1] == pytest.approx(1.0)
