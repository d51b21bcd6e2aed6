"""The Parzen-window estimate against the normal density and scipy's kernel density estimate."""

import os

import numpy as np
import pytest
from scipy.stats import gaussian_kde, multivariate_normal

from bihm.data import load
from bihm.machine.parzen import SIGMAS, choose_sigma, parzen_log_p
from bihm.run.estimates.parzen import density_blocks, levels

RNG = np.random.default_rng(0)
ROWS, SAMPLES = RNG.random((7, 3)), RNG.random((11, 3))


def test_it_is_scipys_in_float64():
    sigmas = np.array([0.1, 0.4])
    got = parzen_log_p(ROWS, SAMPLES, sigmas)
    assert got.dtype == np.float64
    for values, sigma in zip(got, sigmas, strict=True):
        kernels = [multivariate_normal(s, sigma**2 * np.eye(3)).pdf(ROWS) for s in SAMPLES]
        np.testing.assert_allclose(values, np.log(np.mean(kernels, axis=0)), rtol=1e-12)
    kde = gaussian_kde(SAMPLES[:, 0], bw_method=0.3 / SAMPLES[:, 0].std(ddof=1))
    one = parzen_log_p(ROWS[:, :1], SAMPLES[:, :1], np.array([0.3]))[0]
    np.testing.assert_allclose(one, kde.logpdf(ROWS[:, 0]), rtol=1e-10)


def test_copies_of_a_sample_are_one_sample_and_far_rows_have_finite_densities():
    once = parzen_log_p(ROWS, SAMPLES[:1], SIGMAS)
    np.testing.assert_allclose(parzen_log_p(ROWS, SAMPLES[[0] * 9], SIGMAS), once, rtol=1e-12)
    far = parzen_log_p(ROWS + 100, SAMPLES, SIGMAS)
    assert np.isfinite(far).all()
    assert (far < -1e4).all()


def test_it_integrates_to_one():
    x = np.linspace(-3, 4, 4001)
    p = np.exp(parzen_log_p(x[:, None], SAMPLES[:, :1], np.array([0.2]))[0])
    np.testing.assert_allclose(np.trapezoid(p, x), 1, rtol=1e-6)


def test_blocks_make_no_difference_and_are_told(monkeypatch):
    whole, told = parzen_log_p(ROWS, SAMPLES, SIGMAS), []
    monkeypatch.setattr("bihm.machine.parzen.BLOCK", 3)
    got = parzen_log_p(ROWS, SAMPLES, SIGMAS, lambda *a: told.append(a))
    np.testing.assert_allclose(got, whole, rtol=1e-13)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_sigma_is_the_best_of_the_published_grid():
    sigma, mean = choose_sigma(ROWS, SAMPLES)
    means = parzen_log_p(ROWS, SAMPLES, SIGMAS).mean(axis=1)
    assert sigma == SIGMAS[means.argmax()]
    assert mean == means.max()
    np.testing.assert_allclose(SIGMAS[[0, 3, -1]], [0.1, 0.2154434690031884, 1.0], rtol=1e-12)


@pytest.mark.long
@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("BIHM_DATA"), reason="needs $BIHM_DATA")
def test_training_images_as_samples_are_the_anchor_of_mnist():
    """Measured apart from this program: 243.6 +- 2.1, with sigma 0.167."""
    mnist = load("mnist")
    blocks = density_blocks(
        {},
        lambda split: levels(getattr(mnist, split), grey=True),
        ("test",),
        10_000,
        lambda done, total: None,
    )
    anchor = blocks["test"]["parzen_anchor"]
    assert abs(anchor["mean"] - 243.6) < 2.1 + anchor["sem"]
    assert anchor["sigma"] == SIGMAS[2]
