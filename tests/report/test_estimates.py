"""The estimates that a report makes are those of the commands: same rows, same seed, same numbers."""

import json

import numpy as np
import pytest

from bihm.report import estimates
from bihm.run.load import read_run


@pytest.fixture(scope="module")
def machine(uninterrupted):
    return read_run(uninterrupted[0])


def test_at_the_runs_own_K_they_are_the_runs_numbers(machine, uninterrupted):
    test = json.loads((uninterrupted[0] / "results.json").read_text())["test"]
    path = estimates.log_z_path(machine)
    assert [one.outer for one in path] == [100, 200, 500, test["two_log_z"]["outer"]]
    assert path[-1]._asdict() == test["two_log_z"]
    found = estimates.believe(machine, path[-1], most_rows=10**6, K=test["K"])
    assert (found.rows, found.of) == (test["examples"],) * 2
    assert found.Ks == [1, 10, test["K"]]
    for name in ("log_p", "log_p_tilde_star", "log_p_star"):
        assert found.means[name][-1]._asdict() == test[name]
        assert len(found.means[name]) == 3
    assert found.ess["p*"].mean() == pytest.approx(test["ess_p_star"])
    assert found.k_hat == {}  # K is too small for a tail


def test_rows_are_bounded_and_spread(machine, monkeypatch):
    rows = np.arange(1000)[:, None]
    few = estimates.chosen_rows(machine, rows, most=5, K=10)[:, 0]
    assert few.tolist() == [0, 249, 499, 749, 999]
    assert len(estimates.chosen_rows(machine, rows, most=2000, K=10)) == 1000
    monkeypatch.setattr(estimates, "WORK", 200 * 10 * machine.parameters)
    assert len(estimates.chosen_rows(machine, rows, most=2000, K=10)) == 200
    assert len(estimates.chosen_rows(machine, rows, most=2000, K=10**6)) == estimates.FEWEST_ROWS


def test_layers_are_looked_at_one_by_one(machine):
    found = estimates.look_at_layers(machine, most_rows=30)
    assert found.rows == 30
    assert found.sizes == [6, 3]
    assert len(found.kl) == len(found.activity) == len(found.in_use) == 2
    assert all(0 < share < 1 for share in found.activity)
    assert all(0 <= used <= size for used, size in zip(found.in_use, found.sizes, strict=True))


def test_the_ladder_ends_at_the_largest():
    assert estimates.ladder(10_000) == [1, 10, 100, 1000, 10_000]
    assert estimates.ladder(300) == [1, 10, 100, 300]
    assert estimates.ladder(1) == [1]
