"""Estimates of a few rows of a split: which rows they are, and that a file says so."""

import json
import shutil

import numpy as np
import pytest
from small_run import arrays_in, tiny

from bihm.cli.evaluate import main as evaluate_main
from bihm.errors import ConfigError
from bihm.run.estimates.drawn_rows import draw_rows
from bihm.run.estimates.listener import NOBODY
from bihm.run.estimates.mixture import Mixture, fit_weights, mix
from bihm.run.evaluate import evaluate
from bihm.run.load import read_run
from bihm.run.train import train


@pytest.fixture(scope="module")
def runs(uninterrupted, tmp_path_factory):
    """Two machines of the bars, which have 1000 rows for valid and 5000 for test."""
    folder = tmp_path_factory.mktemp("drawn")
    train(tiny(seed=1, epochs=1), folder / "b")
    return shutil.copytree(uninterrupted[0], folder / "a"), folder / "b"


def test_more_rows_have_the_fewer_among_them_and_are_spread_over_the_split():
    split = np.arange(1000)
    few, many, every = (draw_rows(split, count, "test", NOBODY).rows for count in (50, 200, 1000))
    assert len(set(few)) == 50
    assert set(few) < set(many)
    assert (np.diff(many) > 0).all()
    # Splits may be sorted, as MNIST's are by digit: a fifth of each fifth, about (sd 5).
    assert (np.abs(np.histogram(many, bins=5, range=(0, 1000))[0] - 40) < 25).all()
    np.testing.assert_array_equal(every, split)


def test_the_numbers_are_those_of_the_rows_that_the_file_names(runs, tmp_path, capsys):
    evaluate_main([f"run={runs[0]}", "K=5", "rows=30", "per_example=true", f"out={tmp_path}"])
    out, err = capsys.readouterr()
    assert "test  30 rows, K=5:" in out
    assert "30 of the 5000 rows of split=test, drawn at random, the same each time" in err
    arrays = arrays_in(tmp_path / "eval-test-K5-rows30.npz")
    machine = read_run(runs[0])
    expected = machine.estimates(machine.rows("test")[arrays["row"]], 5)
    np.testing.assert_array_equal(arrays["log_p"], np.float32(expected.log_p))
    block = json.loads((tmp_path / "eval-test-K5-rows30.json").read_text())
    assert (block["examples"], block["drawn_from"]) == (30, 5000)
    np.testing.assert_allclose(block["log_p"]["mean"], expected.log_p.mean())


def test_several_k_and_the_rest_have_the_same_rows(runs, tmp_path):
    evaluate_main([f"run={runs[0]}", "K=[2,5]", "rows=30", f"out={tmp_path}"])
    (tmp_path / "alone").mkdir()
    evaluate_main([f"run={runs[0]}", "K=5", "rows=30", f"out={tmp_path / 'alone'}"])
    name = "eval-test-K5-rows30.json"
    assert (tmp_path / name).read_text() == (tmp_path / "alone" / name).read_text()
    evaluate_main([f"run={runs[0]}", "K=5", "rows=30", "repeats=2", f"out={tmp_path}"])
    assert json.loads((tmp_path / "eval-test-K5-rows30-repeats2.json").read_text())["repeats"] == 2


def test_a_mixture_is_fitted_on_as_many_rows_of_valid(runs, tmp_path):
    words = [f"run={runs[0]},{runs[1]}", "K=5", "per_example=true"]
    evaluate_main([*words, "rows=30", f"out={tmp_path}"])
    arrays = arrays_in(tmp_path / "eval-mixture-test-K5-rows30.npz")
    machines = [read_run(run) for run in runs]
    mixture = Mixture(machines)
    rows = machines[0].rows("test")[arrays["row"]]
    valid = draw_rows(machines[0].rows("valid"), 30, "valid", NOBODY).rows
    weights = fit_weights(mixture.log_p_each(valid, 5, split="valid"))
    assert weights.min() > 0  # both count
    expected = mix(weights, mixture.log_p_each(rows, 5))
    np.testing.assert_allclose(arrays["log_p"], expected, rtol=1e-6)
    block = json.loads((tmp_path / "eval-mixture-test-K5-rows30.json").read_text())
    assert (block["examples"], block["drawn_from"]) == (30, 5000)


def test_a_mixture_takes_all_of_valid_where_that_has_fewer(runs, tmp_path, capsys):
    evaluate_main([f"run={runs[0]},{runs[1]}", "K=1", "rows=1001", f"out={tmp_path}"])
    err = capsys.readouterr().err
    assert "1001 of the 5000 rows of split=test" in err
    assert "1000 of the 1000 rows of split=valid" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rows=0"], "rows must be at least 1, got 0"),
        (["rows=5001"], "rows=5001, but split=test has 5000 rows"),
        (["rows=5001", "K=[1,2]"], "rows=5001, but split=test has 5000 rows"),
        (["rows=many"], "rows must be a whole number, got 'many'"),
        (["rows=10", "parzen=true"], ": rows cannot be had with parzen=true"),
        (["K=5", "repeats=2", "parzen=true"], ": K, repeats cannot be had with parzen=true"),
    ],
)
def test_rows_that_there_are_not_are_refused_in_one_line(runs, words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        evaluate_main([f"run={runs[0]}", *words])
    assert message in capsys.readouterr().err


def test_python_is_refused_likewise(runs):
    with pytest.raises(ConfigError, match="rows=1001, but split=valid has 1000 rows"):
        evaluate(read_run(runs[0]), split="valid", K=1, count=1001)
