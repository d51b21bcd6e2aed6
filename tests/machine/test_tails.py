"""k-hat: whether the mean of a row's weights can be believed."""

import numpy as np
import pytest
from scipy.stats import genpareto

from bihm.machine.tails import FEWEST, MOST, Largest, k_hat, pareto_shape, tail_size

# What arviz 0.23.4 (psislw) finds for the same log weights.
ARVIZ = {
    1.0: [0.12394294, 0.50587744, 2.21632173, 0.75510019, 1.04798822, 13.68224283],
    0.5: [0.03470586, 0.14096374, 0.97853181, 0.49355358, 0.57706155, 7.27796613],
}


def weights():
    rng = np.random.default_rng(5)
    normal = [rng.normal(0, spread, 1000) for spread in (0.5, 2.0, 6.0)]
    pareto = [-np.log(rng.random(1000)) * k for k in (0.5, 1.2)]
    return np.stack([*normal, *pareto, rng.normal(-300, 40, 1000)]).astype(np.float32)


def largest(log_w, cut=300):
    kept = Largest(len(log_w), log_w.shape[1])
    for start in range(0, log_w.shape[1], cut):
        kept.add(log_w[:, start : start + cut])
    return kept.log_w


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_k_hat_is_that_of_the_reference_implementation(power):
    np.testing.assert_allclose(k_hat(largest(weights()), power), ARVIZ[power], rtol=1e-7)


@pytest.mark.parametrize("k", [-0.2, 0.3, 0.7, 1.5])
def test_the_fit_finds_the_shape_of_pareto_tails(k):
    """In the mean over 300 tails, within five standard errors; the prior's pull is known."""
    n, tails = 900, 300
    x = np.sort(genpareto.rvs(k, scale=3, size=(tails, n), random_state=0), axis=1)
    shapes = (pareto_shape(x) * (n + 10) - 5) / n
    assert abs(shapes.mean() - k) < 5 * shapes.std(ddof=1) / np.sqrt(tails)
    np.testing.assert_allclose(pareto_shape(1e-30 * x), pareto_shape(x), rtol=1e-6)  # of any scale


def test_the_largest_weights_do_not_depend_on_how_they_came():
    log_w = weights()
    rows = np.sort(log_w, axis=1)[:, -(tail_size(1000) + 1) :]
    for cut in (7, 100, 999, 1000):
        np.testing.assert_array_equal(np.sort(largest(log_w, cut), axis=1), rows)


def test_the_tail_grows_with_k_and_memory_does_not():
    assert [tail_size(K) for K in (1, 20, 21, 100, 1000, 100_000)] == [1, 4, 5, 20, 95, 949]
    assert tail_size(2**31 - 1) == MOST
    kept = Largest(2, 2**31 - 1)
    for _ in range(5):
        kept.add(np.zeros((2, 900), np.float32))
    assert kept.log_w.shape == (2, MOST + 1)


@pytest.mark.filterwarnings("error")
def test_tails_that_nothing_can_be_fitted_to():
    flat = np.full((1, 100), -7.0, np.float32)
    assert k_hat(largest(flat)) == 0  # no weight above the others
    few = flat.copy()
    few[0, : FEWEST - 1] = np.arange(FEWEST - 1)
    assert k_hat(largest(few)) == np.inf  # all there is, is in four samples
    assert np.isnan(k_hat(largest(flat[:, :20])))
    for broken in (np.nan, np.inf, -np.inf):
        rows = np.concatenate([flat, flat])
        rows[0] = broken
        found = k_hat(largest(rows))
        assert np.isnan(found[0])
        assert found[1] == 0
    far = np.linspace(-5000, 0, 100, dtype=np.float32)[None]  # beyond float64 beside the largest
    assert k_hat(largest(far)) > 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [100, 120, 676, 728])  # 40 and 56 points, where the grid meets b = 0
@pytest.mark.parametrize("others", [0, 20])
def test_a_tail_of_equal_weights_has_the_shape_of_those_a_little_longer_or_shorter(n, others):
    def shape(length):
        few = np.random.default_rng(0).random(others)
        return pareto_shape(np.sort([*few, *np.ones(length - others)])[None])[0]

    assert shape(n) == pytest.approx((shape(n - 1) + shape(n + 1)) / 2, rel=0.01)
    assert shape(n) < 0  # bounded


@pytest.mark.filterwarnings("error")
def test_no_tail_of_few_different_weights_breaks_the_fit():
    rng = np.random.default_rng(1)
    for K in (25, 100, 1112, 1600, 10_000, 58_000):
        steps = rng.normal(size=(60, 3)).astype(np.float32)
        of = np.minimum(rng.geometric(rng.uniform(0.2, 0.99, (60, 1)), (60, K)) - 1, 2)
        found = k_hat(largest(np.take_along_axis(steps, of, axis=1), cut=K))
        assert not np.isnan(found).any()


def test_ties_at_the_cutoff_are_not_in_the_tail():
    """Weights of a machine with few states are equal: those above the cutoff alone are fitted."""
    steps = np.repeat([0.0, 1.0, 2.0, 3.0], [900, 60, 30, 10]).astype(np.float32)
    sure = k_hat(largest(np.random.default_rng(0).permuted(steps)[None]))
    # 95 of 100 above zero are kept; the cutoff is one of the 60 at one.
    tail = np.sort(np.exp(steps[960:] - 3.0) - np.exp(-2.0))[None].astype(np.float64)
    np.testing.assert_allclose(sure, pareto_shape(tail), rtol=1e-5)
