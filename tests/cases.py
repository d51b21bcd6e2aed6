"""Which cases of a test stand for others, so that the quick tests need not have them all."""

import pytest


def rare(*cases):
    """Values of a test's one parameter, among the long tests: another case is of their kind."""
    return [pytest.param(case, marks=pytest.mark.long) for case in cases]
