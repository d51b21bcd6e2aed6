"""The sums behind the estimates, on weights whose answers are known in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihm.errors import NumbersError
from bihm.machine.likelihood import (
    Estimates,
    add_weights,
    count_blocks,
    estimates_of,
    log_z_terms,
    mean_and_sem,
    no_weights,
    summarise_log_z,
)
from bihm.records.results import block_of, number, table
from bihm.run.splits import block_size


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
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, expected)


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
