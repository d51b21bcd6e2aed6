"""`import bihm`: what it gives is what the commands give, and what it refuses it refuses in one line."""

import json
import logging
import pydoc
import shutil
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from oracle import log_prob
from small_run import numbers, tiny

import bihm
from bihm import paths
from bihm.cli import evaluate, export, sample
from bihm.data import load as load_data
from bihm.machine.machine import bind
from bihm.run.build import make_keys, make_parts
from bihm.run.trained import TrainedMachine

WORDS = [  # of the run that the fixture `uninterrupted` trains
    *("dataset=bars", "layers=[6,3]", "K=4", "batch_size=250", "epochs=4", "stop.patience=null"),
    *("eval.every=1", "eval.K=5", "eval.final_K=15", "eval.z_outer=400", "eval.final_z_outer=800"),
    *("eval.z_inner=5", "checkpoint.every_seconds=0"),
]


@pytest.fixture(scope="module")
def run(uninterrupted, tmp_path_factory):
    return shutil.copytree(uninterrupted[0], tmp_path_factory.mktemp("door") / "run")


@pytest.fixture(scope="module")
def machine(run):
    return bihm.load(run)


@pytest.fixture
def command(monkeypatch, capsys):
    monkeypatch.setattr("bihm.runtime.configure_jax", lambda: None)

    def command(module, *words):
        module.main([str(word) for word in words])
        capsys.readouterr()

    return command


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def untrained(**changes):
    """A machine that nobody trained, of any rule."""
    config = tiny(**changes)
    structure, params, _ = make_parts(config)
    return TrainedMachine(config, structure, params, "nowhere/")


@pytest.mark.parametrize(
    ("K", "split"), [(15, "test"), (7, "valid"), pytest.param(3, "test", marks=pytest.mark.long)]
)
def test_likelihoods_are_those_of_bihm_eval_bit_for_bit(command, run, machine, K, split):
    command(evaluate, f"run={run}", f"K={K}", f"split={split}", "per_example=true")
    found = arrays(run / f"eval-{split}-K{K}.npz")
    rows = machine.rows(split)
    np.testing.assert_array_equal(rows, getattr(load_data("bars"), split))
    where = {"split": split}
    np.testing.assert_array_equal(machine.log_p(rows, K, **where), found["log_p"])
    tilde = machine.log_p_tilde_star(rows, K, **where)
    np.testing.assert_array_equal(tilde, found["log_p_tilde_star"])
    np.testing.assert_array_equal(machine.ess(rows, K, **where), found["ess_p_star"])
    block = json.loads((run / f"eval-{split}-K{K}.json").read_text())
    assert machine.two_log_z()._asdict() == block["two_log_z"]
    star = machine.log_p_star(rows, K, **where)
    np.testing.assert_array_equal(star, tilde - block["two_log_z"]["mean"])
    assert star.mean() == pytest.approx(block["log_p_star"]["mean"], rel=1e-14)
    assert star.dtype == np.float64
    assert star.shape == (len(rows),)


@pytest.mark.parametrize(
    "K",
    [
        pytest.param(15, id="more than a block"),
        pytest.param(3, id="less than a block", marks=pytest.mark.long),
    ],
)
def test_the_k_of_a_run_gives_its_results(uninterrupted, machine, tmp_path, K):
    results = uninterrupted[1]
    if K != 15:
        words = [word for word in WORDS if not word.startswith("eval.final_K")]
        short = bihm.train(*words, f"eval.final_K={K}", directory=tmp_path / "short")
        results, machine = short.results, short.machine
    got = machine.estimates(machine.rows(), K)
    assert got.log_p.mean() == results["test"]["log_p"]["mean"]
    assert got.ess_p.mean() == results["test"]["ess_p"]


def test_two_log_z_is_estimated_once_a_seed(run, monkeypatch):
    machine = bihm.load(run)
    before = machine.two_log_z()
    assert machine.two_log_z(seed=1) != before
    monkeypatch.setattr("bihm.run.trained.final_log_z", None)
    assert machine.two_log_z() == machine.two_log_z(seed=machine.config.seed) == before
    machine.log_p_star(machine.rows("valid"), K=5, split="valid", seed=1)


METHODS = [
    ("ancestral", {}),
    pytest.param("resample", {"proposals": 100}, marks=pytest.mark.long),
    pytest.param("chain", {"sweeps": 3, "K": 2}, marks=pytest.mark.long),
    pytest.param("layerwise", {"sweeps": 3, "K": 2}, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_samples_are_those_of_bihm_sample_bit_for_bit(command, run, machine, method, settings):
    words = [f"{key}={value}" for key, value in settings.items()]
    command(sample, f"run={run}", "n=5", "seed=7", f"method={method}", *words)
    x = machine.sample(5, method, seed=7, **settings)
    np.testing.assert_array_equal(x, arrays(run / f"samples-{method}.npz")["x"])
    assert x.dtype == np.uint8


@pytest.mark.long
def test_completions_are_those_of_bihm_sample_bit_for_bit(command, run, machine):
    command(sample, f"run={run}", "n=5", "seed=7", "mask=left", "sweeps=3", "K=2")
    file = arrays(run / "samples-inpaint.npz")
    settings = {"seed": 7, "sweeps": 3, "K": 2}
    np.testing.assert_array_equal(machine.complete(file["data"], "left", **settings), file["x"])
    missing = np.where(file["observed"], file["data"], np.nan)  # as people mark what is missing
    each = np.broadcast_to(file["observed"], missing.shape)
    for mask in (file["observed"], file["observed"].astype(bool), each):
        np.testing.assert_array_equal(machine.complete(missing, mask, **settings), file["x"])


@pytest.mark.long
def test_best_completions_are_those_of_bihm_sample_and_better_than_random_ones(
    command, run, machine
):
    """With the score that `log_p_tilde_star` agrees with, as the run's model is p*."""
    command(sample, f"run={run}", "n=5", "mask=left", "sweeps=20", "K=50", "method=best")
    file = arrays(run / "samples-best.npz")
    left = np.broadcast_to(file["observed"] == 1, file["x"].shape)
    np.testing.assert_array_equal(file["x"][left], file["data"][left])
    settings = {"sweeps": 20, "K": 50}
    got = machine.complete(file["data"], "left", method="best", **settings)
    np.testing.assert_array_equal(got, file["x"])
    np.testing.assert_allclose(file["score"], machine.log_p_tilde_star(got, 2000), atol=1.0)
    random = machine.complete(file["data"], "left", sweeps=20)
    assert (file["score"] > machine.log_p_tilde_star(random, 2000)).all()


def test_every_row_has_its_own_mask(machine):
    rows = machine.rows()[:5]
    mask = np.arange(rows.size).reshape(rows.shape) % 3 == 0
    got = machine.complete(rows, mask, sweeps=1, K=2)
    np.testing.assert_array_equal(got[mask], rows[mask])
    assert not np.array_equal(got, rows)


@pytest.mark.long
def test_a_completion_is_by_the_runs_own_model():
    """Of p for rws, of p* for bihm: where the two disagree, so do the completions."""
    where = {"init__visible_bias": "constant", "init__weights": "glorot"}
    x = np.zeros((5, 16))
    one, other = (untrained(model__name=name, **where) for name in ("bihm", "rws"))
    got = [machine.complete(x, "left", sweeps=3, K=2) for machine in (one, other)]
    left = np.tile([1, 1, 0, 0], 4) == 1
    assert not any(rows[:, left].any() for rows in got)
    assert not np.array_equal(*got)


def test_a_weights_file_is_as_good_as_its_run(command, run, machine, tmp_path):
    command(export, f"run={run}", f"out={tmp_path / 'machine.safetensors'}")
    other = bihm.load(str(tmp_path / "machine.safetensors"))
    x = machine.rows()
    np.testing.assert_array_equal(other.log_p(x, K=5), machine.log_p(x, K=5))
    assert repr(other) == repr(machine) == "<bihm on bars: 16-6-3>"
    assert other.parameters == machine.parameters


@pytest.mark.parametrize(
    ("rule", "power"),
    [("bihm", 0.5), ("rws", 1), pytest.param("wake_sleep", 1, marks=pytest.mark.long)],
)
def test_a_posterior_is_latents_with_the_weights_of_the_model(rule, power):
    machine = untrained(model__name=rule, init__weights="glorot", init__visible_bias="constant")
    x = np.random.default_rng(0).integers(0, 2, (7, 16))
    for K in (5, 900):  # rows together, and two at a time
        h, weights, log_weights = machine.posterior(x, K)
        assert [layer.shape for layer in h] == [(K, 7, 6), (K, 7, 3)]
        assert {layer.dtype for layer in h} == {np.dtype(np.uint8)}
        p, q = (getattr(bind(machine.structure, machine.params), side) for side in "pq")
        nothing = np.zeros((K, 7, 0))
        truth = log_prob(p[0], x, h[0]) + log_prob(p[1], h[0], h[1]) + log_prob(p[2], h[1], nothing)
        truth -= log_prob(q[0], h[0], x) + log_prob(q[1], h[1], h[0])
        np.testing.assert_allclose(log_weights, truth, rtol=0, atol=1e-4)
        expected = np.exp(power * log_weights)
        np.testing.assert_allclose(weights, expected / expected.sum(axis=0), rtol=1e-12)
    again = machine.posterior(x, 5, seed=3)
    assert not np.array_equal(again.h[0], machine.posterior(x, 5).h[0])


def test_p_star_belongs_to_bihm():
    machine = untrained(model__name="rws")
    x = np.zeros((2, 16))
    calls = {
        **{name: getattr(machine, name) for name in ("log_p_star", "log_p_tilde_star")},
        "two_log_z": lambda x: machine.two_log_z(),
    }
    for name, call in calls.items():
        with pytest.raises(bihm.ConfigError, match=f"^{name} belongs to model=bihm"):
            call(x)
    found = machine.estimates(x, 5)
    np.testing.assert_array_equal(machine.ess(x, 5), found.ess_p)
    with pytest.raises(
        bihm.ConfigError, match=r"which only model=bihm has; this run's model is rws"
    ):
        machine.sample(5, "chain")


class Tensor:
    """What torch does with a tensor that has a gradient, or lies on another device."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy\nmore")


class Frame:
    """What pandas makes of columns of several types."""

    def __array__(self, dtype=None, copy=None):
        return np.array([[True, 0] * 8, [1.0, 1] * 8], dtype=object)


WRONG_ROWS = [
    (np.zeros((3, 15)), "x has 15 columns; this machine has 16 visible units"),
    (np.zeros(16), r"x has shape (16,), as one row: give x[None]"),
    (np.zeros(5), "x has shape (5,); needed are (rows, features)"),
    (np.array(1), "x has shape (); needed are (rows, features)"),
    (np.zeros((2, 4, 4)), "flatten it with x.reshape(len(x), -1)"),
    (np.zeros((0, 16)), "x has no rows"),
    (np.full((2, 16), 255), "x: row 0, column 0 is 255; only 0 and 1 are bits"),
    (np.full((2, 16), 0.5), "x: row 0, column 0 is 0.5; only 0 and 1 are bits"),
    (np.full((2, 16), np.nan), "x: row 0, column 0 is nan; only 0 and 1 are bits"),
    (np.full((2, 16), "1"), "x holds <U1, not numbers 0 and 1"),
    (np.zeros((2, 16), complex), "x holds complex128, not numbers 0 and 1"),
    ([[0, 1], [0]], "x cannot be read as an array of numbers (setting an array element"),
    (Tensor(), "x cannot be read as an array of numbers (can't convert cuda:0 device type"),
]


@pytest.mark.parametrize(("x", "message"), WRONG_ROWS)
def test_rows_that_are_none_are_refused_in_one_line(machine, x, message):
    for method in (machine.log_p, machine.posterior, lambda x: machine.complete(x, "left")):
        with pytest.raises(bihm.DataError) as caught:
            method(x)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_rows_may_be_whatever_numpy_reads(machine):
    x = [[1, 0] * 8, [1, 1] * 8]
    expected = machine.log_p(np.array(x, np.uint8), 3)
    for same in (
        x,
        np.array(x, bool),
        np.array(x, np.float16),
        jnp.array(x, jnp.bfloat16),
        Frame(),
    ):
        np.testing.assert_array_equal(machine.log_p(same, 3), expected)


def test_a_mask_may_be_a_file_by_its_path(machine, tmp_path):
    mask, complete = np.arange(16) < 8, partial(machine.complete, np.ones((5, 16)), sweeps=1, K=2)
    np.save(tmp_path / "mask.npy", mask)
    np.testing.assert_array_equal(complete(tmp_path / "mask.npy"), complete(mask))


def test_a_machine_knows_its_files_wherever_the_program_goes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    machine = bihm.load(run.name)
    monkeypatch.chdir(tmp_path)
    assert machine.stem == f"{run}/"  # where it looks for the digest of its own rows


def test_jax_may_count_in_64_bits(machine):
    expected = machine.log_p(X, 30)
    with jax.enable_x64(True):
        np.testing.assert_allclose(machine.log_p(X, 30), expected, rtol=1e-5)


def test_a_seed_means_the_same_whatever_keys_jax_makes_by_default(machine):
    expected = machine.sample(3), make_keys(0)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(machine.sample(3), expected[0])
        assert [key.dtype for key in make_keys(0)] == [key.dtype for key in expected[1]]


def test_wrong_rows_are_refused_before_z_is_estimated(machine, monkeypatch):
    monkeypatch.setattr(type(machine), "two_log_z", None)
    with pytest.raises(bihm.DataError, match="x has 15 columns"):
        machine.log_p_star(X[:, :15])


X = np.zeros((2, 16))
WRONG_CALLS = [
    (lambda m: m.log_p(X, 0), "K must be at least 1, got 0"),
    (lambda m: m.log_p(X, 2**31), "K must be at most 2147483647, got 2147483648"),
    (lambda m: m.log_p(X, seed=-1), "seed must lie in 0 .. 2**32 - 1, got -1"),
    (lambda m: m.log_p(X, split="tset"), "split must be one of train, valid, test, got 'tset'"),
    (lambda m: m.rows("all"), "split must be one of train, valid, test, got 'all'"),
    (lambda m: m.posterior(X, 0), "K must be at least 1, got 0"),
    (lambda m: m.sample(0), "n must be at least 1, got 0"),
    (
        lambda m: m.sample(2, "gibbs"),
        "method must be one of ancestral, resample, chain, layerwise, best, got",
    ),
    (lambda m: m.sample(2, ""), "method must be one of ancestral"),
    (lambda m: m.given(X * np.nan, split="tset"), "split must be one of train, valid, test"),
    (lambda m: m.sample(2, K=3), "K has no meaning with method=ancestral; it belongs to chain"),
    (lambda m: m.sample(2, seed=2**32), "seed must lie in 0 .. 2**32 - 1"),
    (lambda m: m.complete(X, "lfet"), "mask=lfet is neither one of left, right, top, bottom nor"),
    (lambda m: m.complete(X, np.ones(16)), "mask observes every pixel"),
    (lambda m: m.complete(X, np.zeros(16)), "mask observes no pixel"),
    (lambda m: m.complete(X, np.ones(15)), "mask has shape (15,); needed are (16,) or (2, 16)"),
    (lambda m: m.complete(X, np.full(16, 2)), "mask: row 0, column 0 is 2; only 0 and 1 are bits"),
    (lambda m: m.given(np.array(0.5), "top"), "x has shape (); needed are (rows, features)"),
    (lambda m: m.complete(X, "left", K=1), "K must be at least 2, got 1"),
    (lambda m: bihm.load("nowhere"), "nowhere: there is no such run directory or weights file"),
    (lambda m: bihm.load(paths.configs()), "is not a run directory: it has no config.yaml"),
    (lambda m: bihm.load(__file__), "damaged, or not a safetensors file"),
    (lambda m: bihm.load("a" * 300), "there is no such run directory or weights file"),
    (lambda m: bihm.results("nowhere"), "nowhere: there is no such folder"),
]


@pytest.mark.parametrize(("call", "message"), WRONG_CALLS)
def test_a_call_that_makes_no_sense_is_refused_in_one_line(machine, call, message):
    with pytest.raises(bihm.BihmError) as caught:
        call(machine)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_training_is_that_of_the_command(uninterrupted, tmp_path, capsys, caplog):
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("bihm").level)
    directory = tmp_path / "a=b, 007 (1)"
    run = bihm.train(*WORDS, directory=str(directory))
    assert numbers(run.results) == numbers(uninterrupted[1])
    assert run.directory == directory
    assert json.loads((directory / "results.json").read_text()) == run.results
    assert capsys.readouterr() == ("", "")
    assert all("independent bits" in record.getMessage() for record in caplog.records)  # advice
    log = (directory / "train.log").read_text()
    assert "bihm on bars: 16-6-3" in log
    assert "stopped by epochs" in log
    with caplog.at_level(logging.INFO):  # as a caller who asked for them
        inside = (root.level, list(root.handlers), logging.getLogger("bihm").level)
        again = bihm.train(*WORDS, directory=directory)
        assert (root.level, list(root.handlers), logging.getLogger("bihm").level) == inside
    assert again.results == run.results
    assert "has finished already; nothing to do" in caplog.text
    assert (root.level, list(root.handlers), logging.getLogger("bihm").level) == before
    assert logging.getLogger("bihm").propagate
    with pytest.raises(bihm.ConfigError, match="holds another run: seed was 0, now 1"):
        bihm.train(*WORDS, "seed=1", directory=directory)


WRONG_WORDS = [
    (["dpeth=3"], "there is no key 'dpeth'; did you mean 'depth'?"),
    (["seed=0,1"], "seed=0,1: several values make a sweep, which is for the command"),
    (["-m", "seed=1"], "'-m' is for the command; a word here is key=value"),
    (["--multirun"], "'--multirun' is for the command; a word here is key=value"),
    (["hydra.job.chdir=true"], "hydra.job.chdir has no meaning here; of Hydra's own keys, only"),
    (["hydra/launcher=joblib"], "hydra/launcher has no meaning here"),
    (["+hydra.callbacks.x._target_=os.getcwd"], "hydra.callbacks.x._target_ has no meaning here"),
    (["model=nothing"], "model=nothing: there is no such option; choose one of bihm, "),
    (["K=0"], "K must be at least 1, got 0"),
    (["layers=[3]", "depth=2"], "depth=2 disagrees with the 1 sizes of layers=[3]"),
    (["dataset=file", "dataset.path=nothing.npy"], "nothing.npy: no such file"),
    (["K={"], "'K={' cannot be read"),
    (["hydra.run.dir=here"], "and hydra.run.dir exclude each other"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_WORDS)
def test_wrong_words_are_refused_in_one_line_and_nothing_is_written(tmp_path, words, message):
    with pytest.raises(bihm.BihmError) as caught:
        bihm.train(*words, directory=tmp_path / "run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 2.00 GiB"),
        jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory allocating 2147483648 bytes."
        ),
    ],
)
def test_too_little_memory_is_told_in_one_line_whoever_lacks_it(tmp_path, monkeypatch, error):
    def make_run(config):
        raise error

    monkeypatch.setattr("bihm.run.train.make_run", make_run)
    with pytest.raises(
        bihm.BihmError, match=r"^out of memory: 2\.15 GB wanted; lower K or batch_size$"
    ):
        bihm.train(*WORDS, directory=tmp_path / "run")


def test_inside_another_hydra_app_nothing_of_it_changes(tmp_path):
    import hydra._internal.hydra as internal

    store, plugins = ConfigStore.instance(), Plugins.instance()
    names, known = set(store.repo), dict(plugins.class_name_to_class)
    loader = internal.ConfigLoaderImpl
    (tmp_path / "app.yaml").write_text("ours: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        with pytest.raises(bihm.ConfigError, match="K must be at least 1"):
            bihm.train("K=0")
        assert GlobalHydra.instance().hydra is theirs
        assert compose("app", ["+x=2"]) == {"ours": 1, "x": 2}
    assert ConfigStore.instance() is store
    assert set(store.repo) == names
    assert Plugins.instance() is plugins
    assert plugins.class_name_to_class == known
    assert internal.ConfigLoaderImpl is loader


def test_all_runs_below_a_folder_are_rows_for_pandas(uninterrupted, tmp_path):
    finished, results = uninterrupted
    small = ("config.yaml", "status.json", "results.json")
    names = ("done", "sweep/0", "no results", "goes on", "bad results", "bad config", "bad status")
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        for file in small:
            shutil.copy(finished / file, tmp_path / name / file)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "no results" / "results.json").unlink()
    for name in ("no results", "goes on"):
        stopped = '{"status": "interrupted", "reason": "x"}'
        (tmp_path / name / "status.json").write_text(stopped)
    for file, content in zip(small, ("[", "null", '{"test": '), strict=True):
        name = f"bad {file.partition('.')[0]}"
        (tmp_path / name / file).write_text(content)
    rows = {row["directory"].removeprefix(f"{tmp_path}/"): row for row in bihm.results(tmp_path)}
    assert list(rows) == sorted(rows)
    assert set(rows) == set(names)
    assert len({tuple(row) for row in rows.values()}) == 1  # the same keys in the same order
    done = rows["done"]
    assert (done["status"], done["reason"], done["model.name"]) == ("finished", "", "bihm")
    assert (done["layers"], done["eval.final_K"], done["seed"]) == ([6, 3], 15, 0)
    assert done["test.log_p"] == results["test"]["log_p"]["mean"]
    assert done["test.log_p_sem"] == results["test"]["log_p"]["sem"]
    assert done["valid.two_log_z_stderr"] == results["valid"]["two_log_z"]["stderr"]
    assert done["train.seconds"] == results["train"]["seconds"]
    assert done["versions.jax"] == results["versions"]["jax"]
    assert not any(isinstance(value, dict) for value in done.values())
    assert rows["sweep/0"] | {"directory": done["directory"]} == done
    for name in ("no results", "goes on"):  # results that are there are those of the end before
        part = rows[name]
        assert (part["status"], part["reason"], part["seed"]) == ("interrupted", "x", 0)
        assert part["test.log_p"] is part["train.seconds"] is None
    assert rows["bad results"]["test.log_p"] is None
    assert "results.json: cannot be read" in rows["bad results"]["reason"]
    assert rows["bad config"]["K"] is None
    assert rows["bad config"]["test.log_p"] == done["test.log_p"]
    assert rows["bad status"]["status"] == "damaged"
    (only,) = bihm.results(tmp_path / "no results")
    assert only["test.log_p"] is None


def test_a_link_to_a_run_is_a_run_and_none_is_there_twice(uninterrupted, tmp_path):
    """A folder of links is how people put chosen runs side by side."""
    run, folder = uninterrupted[0], tmp_path / "chosen"
    (folder / "own").mkdir(parents=True)
    shutil.copy(run / "config.yaml", folder / "own")
    (folder / "one").symlink_to(run)
    (folder / "twice").symlink_to(run)
    (folder / "same").symlink_to(folder / "own")
    (folder / "above").symlink_to(tmp_path)  # a circle: not followed
    (folder / "nowhere").symlink_to(tmp_path / "nothing")
    found = [row["directory"] for row in bihm.results(folder)]
    assert found == [str(folder / "one"), str(folder / "own")]


def test_help_shows_every_function_with_its_words():
    text = pydoc.plain(pydoc.render_doc(bihm))
    for word in (
        "load(path",
        "train(*words",
        "results(folder",
        "class TrainedMachine",
        "log_p_star(",
    ):
        assert word in text
    for name in bihm.__all__:
        assert getattr(bihm, name).__doc__, name
    public = [name for name in vars(TrainedMachine) if not name.startswith("_")]
    assert all(getattr(TrainedMachine, name).__doc__ for name in public)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = bihm.laod


PLAIN = """
import sys, time
before = time.process_time()
import bihm
took = time.process_time() - before
assert took < 0.5, took
assert not {"jax", "hydra", "numpy"} & set(sys.modules)
assert bihm.__version__
"""


def test_importing_takes_no_time_and_no_jax():
    subprocess.run([sys.executable, "-c", PLAIN], check=True)


def test_types_are_for_others_too():
    assert (paths.configs().parent / "bihm" / "py.typed").is_file()
