"""Mixtures of trained machines: exact log p of the mixture, its weights, what does not go together."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from oracle import exact, states
from small_run import arrays_in, own_rows, tiny
from tiny_machine import VISIBLE, tiny_machine

import bihm
from bihm.cli import evaluate
from bihm.errors import ConfigError
from bihm.machine.likelihood import Estimates
from bihm.machine.machine import split
from bihm.run.estimates.evaluate_mixture import mixture_block, mixture_doubts, mixture_table
from bihm.run.estimates.mixture import Mixture, fit_weights, mix
from bihm.run.train import train
from bihm.run.trained import TrainedMachine

COPIES, K = 400, 10


def trained(seed, sizes=None):
    """A machine small enough to enumerate, as bihm.load would return it; and its exact log p of every x."""
    machine = tiny_machine(seed=seed, sizes=sizes)
    config = tiny(seed=seed)
    config.dataset.n_features = VISIBLE
    return TrainedMachine(config, *split(machine), f"machine-{seed}/"), exact(machine).log_p


def test_the_estimate_is_that_of_the_exact_mixture():
    (a, exact_a), (b, exact_b) = trained(0, sizes=[4, 3]), trained(1, sizes=[4, 3])
    mixture = Mixture([a, b])
    mixture._weights[K] = np.array([0.3, 0.7])
    truth = 0.3 * np.exp(exact_a) + 0.7 * np.exp(exact_b)
    np.testing.assert_allclose(
        truth.sum(), 1, rtol=1e-5
    )  # over all x: the mixture is a distribution
    x = np.repeat(states(VISIBLE), COPIES, axis=0)
    found = np.exp(mixture.log_p(x, K)).reshape(-1, COPIES)  # unbiased for p(x), at any K
    error = found.std(axis=1, ddof=1) / np.sqrt(COPIES)
    assert (np.abs(found.mean(axis=1) - truth) < 5 * error).all()
    assert (
        np.abs(found.mean(axis=1) - np.exp(exact_a)) > 5 * error
    ).any()  # which one machine is not


def test_weights_are_the_best_there_are():
    log_p = np.random.default_rng(0).normal(size=(4, 300)) * [[1], [1], [2], [1]] - [
        [3],
        [3],
        [3],
        [30],
    ]
    weights = fit_weights(log_p)
    np.testing.assert_allclose(weights.sum(), 1)
    # The condition of Karush, Kuhn and Tucker: mean p_m / p is 1 where w_m > 0, and at most 1 elsewhere.
    ratios = np.exp(log_p - mix(weights, log_p)).mean(axis=1)
    np.testing.assert_allclose(ratios[:3], 1, atol=1e-3)
    assert ratios[3] < 1e-3
    assert weights[3] < 1e-6
    assert np.ptp(weights[:3]) > 0.05  # not the equal ones from which it began


def test_far_from_all_rows_a_mixture_stays_finite():
    log_p = np.array([[-5000.0, -4000.0], [-4000.0, -5000.0]])
    weights = fit_weights(log_p)
    np.testing.assert_allclose(weights, 0.5)
    np.testing.assert_allclose(mix(weights, log_p), -4000 + np.log(0.5))
    np.testing.assert_array_equal(mix(np.array([0.0, 1.0]), log_p), log_p[1])


@pytest.fixture(scope="module")
def runs(uninterrupted, tmp_path_factory):
    """Two machines of one dataset."""
    folder = tmp_path_factory.mktemp("mixture")
    train(tiny(seed=1, epochs=1), folder / "b")
    return shutil.copytree(uninterrupted[0], folder / "a"), folder / "b"


@pytest.fixture
def command(shell):
    return partial(shell, evaluate)


@pytest.mark.long
def test_of_one_row_no_error_is_known_and_large_numbers_stay_narrow():
    each = [Estimates(*np.full((4, 1), log_p)) for log_p in (-3.0, -2e6)]
    block = mixture_block(np.array([0.5, 0.5]), each, K)
    lines = mixture_table("test", ["a", "b"], block)
    assert lines[1:] == ["  0.500 of a:  log_p -3.000 +- ?", "  0.500 of b:  log_p -2.000e+06 +- ?"]
    assert lines[0].endswith("log_p -3.693 +- ?")


def test_doubts_of_its_machines_are_said_of_a_mixture():
    """As of each machine: where many rows have heavy tails, and few samples count."""
    tails = [(0.9, 0.3), (0.9, 0.6), (0.1, 0.3)]  # k-hat and ESS: the first alone is doubtful
    each = [
        Estimates(
            *np.full((2, 20), -3.0), np.full(20, ess), np.ones(20), np.full(20, k), np.ones(20)
        )
        for k, ess in tails
    ]
    (line,) = mixture_doubts(mixture_block(np.full(3, 1 / 3), each, K))
    assert line.startswith(
        "log p of 1 of the 3 machines may be understated: k-hat is above 0.7 for up to 100 % of the rows;"
    )
    assert mixture_doubts(mixture_block(np.full(2, 0.5), each[1:], K)) == []


def test_the_command_evaluates_a_mixture(command, runs, tmp_path):
    a, b = runs
    code, printed, told = command(f"run={a},{b}", "K=7", "per_example=true", f"out={tmp_path}")
    assert (code, told) == (0, "")
    assert "ensemble of 2" in printed
    block = json.loads((tmp_path / "eval-mixture-test-K7.json").read_text())
    assert (block["ensemble"], block["mixture_of"]) == (True, [str(a), str(b)])
    arrays = arrays_in(tmp_path / "eval-mixture-test-K7.npz")
    for run, log_p in zip(runs, arrays["log_p_each"], strict=True):  # as if each stood alone
        machine = bihm.load(run)
        np.testing.assert_array_equal(log_p, machine.log_p(machine.rows(), 7))
    weights = np.array([member["weight"] for member in block["members"]])
    valid = [bihm.load(r).log_p(bihm.load(r).rows("valid"), 7, split="valid") for r in runs]
    np.testing.assert_array_equal(weights, fit_weights(np.stack(valid)))  # on valid, not on test
    mixed = np.log(weights @ np.exp(arrays["log_p_each"]))
    np.testing.assert_allclose(arrays["log_p"], mixed, rtol=1e-10)
    assert block["log_p"]["mean"] == pytest.approx(mixed.mean(), rel=1e-12)
    assert block["log_p"]["sem"] == pytest.approx(mixed.std(ddof=1) / np.sqrt(mixed.size), rel=1e-9)
    mixture = bihm.mixture(a, b)  # from Python, with the same K: weights of that K as well
    np.testing.assert_array_equal(mixture.log_p(mixture.machines[0].rows(), 7), arrays["log_p"])
    np.testing.assert_array_equal(mixture.weights_at(7), weights)


def test_a_mixture_is_the_same_by_whatever_way_its_runs_are_named(
    command, runs, tmp_path, monkeypatch
):
    a, b = runs
    monkeypatch.chdir(a.parent)
    words = ["K=5", "split=valid", f"out={tmp_path}/m.json"]
    assert command(f"run={a.name},{b}", *words)[0] == 0
    monkeypatch.chdir(tmp_path)
    assert command(f"run={a},{b}", *words)[0] == 0
    code, _, told = command(f"run={b},{a}", *words)
    assert code == 2
    assert "holds other estimates than those of this mixture" in told


@pytest.mark.long
def test_python_gives_the_numbers_of_the_command(command, runs, tmp_path):
    a, b = runs
    assert command(f"run={a},{b}", f"out={tmp_path}", "per_example=true", "K=1000")[0] == 0
    mixture = bihm.mixture(a, b)
    found = mixture.log_p(mixture.machines[0].rows())
    arrays = arrays_in(tmp_path / "eval-mixture-test-K1000.npz")
    np.testing.assert_array_equal(found, arrays["log_p"])


def test_what_somebody_does_to_the_weights_changes_no_estimate(runs):
    mixture = bihm.mixture(*runs)
    weights = mixture.weights_at(5)
    mixture.weights_at(5)[:] = [1, 0]
    np.testing.assert_array_equal(mixture.weights_at(5), weights)
    mixture.weights_at(1)  # which True is not
    for K in (True, 0):
        with pytest.raises(ConfigError, match="K must be"):
            mixture.weights_at(K)


def test_a_mixture_is_the_same_when_its_runs_were_moved(command, runs, tmp_path):
    copies = [shutil.copytree(run, tmp_path / "before" / run.name) for run in runs]
    assert command(f"run={copies[0]},{copies[1]}", "K=5")[0] == 0
    (tmp_path / "before").rename(tmp_path / "after")
    a, b = (tmp_path / "after" / run.name for run in runs)
    assert command(f"run={a},{b}", "K=5")[0] == 0
    block = json.loads((a / "eval-mixture-test-K5.json").read_text())
    assert block["mixture_of"] == [str(a), str(b)]


def test_on_valid_it_says_that_the_weights_know_the_rows(command, runs, tmp_path):
    a, b = runs
    code, _, told = command(f"run={a},{b}", "K=5", "split=valid", f"out={tmp_path}")
    assert code == 0
    assert "fitted on these same rows" in told


@pytest.mark.long
def test_rows_of_a_table_that_was_cut_are_told_and_kept(command, runs, tmp_path):
    a, b = runs
    np.save(tmp_path / "mine.npy", np.eye(40, 16, dtype=np.uint8))
    rows = f"dataset={tmp_path / 'mine.npy'}"
    code, _, told = command(f"run={a},{b}", "K=5", rows, f"out={tmp_path}/m.json")
    assert code == 0
    assert "cut 80/10/10" in told
    assert "split=test means 4 of those rows" in told
    assert "cut 80/10/10" in json.loads((tmp_path / "m.json").read_text())["cut"]


@pytest.mark.long
def test_another_mixture_does_not_take_the_place_of_one(command, runs, tmp_path):
    a, b = runs
    assert command(f"run={a},{b}", "K=5", f"out={tmp_path}")[0] == 0
    assert command(f"run={a},{b}", "K=5", f"out={tmp_path}")[0] == 0  # itself, again
    before = (tmp_path / "eval-mixture-test-K5.json").read_bytes()
    code, _, told = command(f"run={b},{a}", "K=5", f"out={tmp_path}")
    assert code == 2
    assert "holds other estimates than those of this mixture" in told
    assert (tmp_path / "eval-mixture-test-K5.json").read_bytes() == before


def table(path, seed):
    np.save(path, np.random.default_rng(seed).integers(0, 2, (40, 16), dtype=np.uint8))
    return str(path)


@pytest.mark.long
def test_machines_of_other_data_are_refused_in_one_line(command, runs, tmp_path):
    a, b = runs
    on = {"batch_size": 10, "epochs": 1, "dataset__name": "file"}
    for name, file, rows in (("c", "c", 0), ("d", "d", 1), ("e", "e", 0)):
        path = table(tmp_path / f"{file}.npy", rows)
        train(tiny(**on, dataset__path=path), tmp_path / name)
    c, d, e = (tmp_path / name for name in "cde")
    wrong = {
        f"{a},{c}": f"{a} was trained on bars and {c} on {tmp_path / 'c.npy'}",
        f"{c},{d}": f"{c} was trained on {tmp_path / 'c.npy'} and {d} on {tmp_path / 'd.npy'}",
        f"{a},{a}/": f"{a} is given twice",
        f"{a},{b},{a}": f"{a} is given twice",
        f"{a},{tmp_path}": f"run={tmp_path} is not a run directory",
        f"{a},": "run= has an empty name between commas",
    }
    for words, line in wrong.items():
        code, printed, told = command(f"run={words}", "K=5", f"out={tmp_path}")
        assert (code, printed) == (2, ""), words
        assert told.startswith(f"bihm-eval: {line}"), words
        assert told.count("\n") == 1
    assert command(f"run={c},{e}", "K=5", f"out={tmp_path}")[0] == 0  # the same rows, in two files


def test_rows_that_have_changed_since_any_of_the_machines_began_are_refused(command, tmp_path):
    path = own_rows(tmp_path / "own.npz", seed=0)
    config = tiny(epochs=1, dataset__name="file", dataset__path=str(path))
    train(config, tmp_path / "old")
    own_rows(path, seed=1)
    train(config, tmp_path / "new")
    shutil.copytree(tmp_path / "new", tmp_path / "copy")
    old, new, copy = (tmp_path / name for name in ("old", "new", "copy"))
    for words in (f"{old},{new}", f"{new},{old}", f"{new},{copy},{old}"):
        code, printed, told = command(f"run={words}", "K=5", f"out={tmp_path}")
        assert (code, printed) == (3, ""), words
        why = f"other rows than when {old} began; put them back, or leave that run out"
        assert told == f"bihm-eval: {path}: {why}\n"
    assert command(f"run={new},{copy}", "K=5", f"out={tmp_path}")[0] == 0


def test_a_folder_whose_name_holds_a_comma_is_one_run(command, runs, tmp_path):
    one = shutil.copytree(runs[0], tmp_path / "a,b")
    assert command(f"run={one}", "K=5")[::2] == (0, "")
    assert (one / "eval-test-K5.json").is_file()


def test_the_data_of_no_member_is_written_over(command, tmp_path):
    for name in ("one", "two"):
        data = own_rows(tmp_path / f"rows-{name}.npz")
        train(tiny(epochs=1, dataset__name="file", dataset__path=str(data)), tmp_path / name)
    words = [f"run={tmp_path}/one,{tmp_path}/two", "K=5", "per_example=true"]
    for data in tmp_path.glob("rows-*.npz"):
        before = data.read_bytes()
        code, printed, told = command(*words, f"out={data.with_suffix('.json')}")
        assert (code, printed, told.count("\n")) == (2, "", 1)
        assert f"{data} is read by this command" in told
        assert data.read_bytes() == before
