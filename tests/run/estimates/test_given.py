"""Of how many samples an estimate of the seen part of a row is: K, rounded up, and doubts count those."""

import numpy as np
import pytest

from bihm.records.results import doubts
from bihm.run.estimates.given import Given, given_block, samples_seen


@pytest.mark.parametrize(
    ("K", "samples"), [(1, 100), (10, 100), (100, 100), (101, 200), (1000, 1000)]
)
def test_samples_are_whole_hundreds(K, samples):
    assert samples_seen(K) == samples


@pytest.mark.parametrize(
    ("K", "ess", "counted"), [(10, 0.9, "of 100 samples only 90 "), (150, 0.5, None)]
)
def test_doubts_are_about_the_samples_that_there_were(K, ess, counted):
    values = np.linspace(-3, -2, 5)
    found = Given(values, None, values, None, np.full(5, ess), None)
    block = {"K": K, "given": given_block(found, np.arange(4) < 1, K)}
    assert (block["given"]["seen"], block["given"]["missing"]) == (1, 3)
    told = doubts(block)
    assert len(told) == (counted is not None)
    assert all(counted in line for line in told)
