"""Runs of target propagation: trained, interrupted, evaluated, sampled, exported, and refused."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from small_run import StopAt, metrics, numbers, without_clock

import bihm
from bihm.cli import evaluate as evaluate_command
from bihm.cli import sweep_table
from bihm.config import Config
from bihm.errors import ConfigError, DataError, Interrupted, NumbersError
from bihm.machine.likelihood import mean_and_sem
from bihm.machine.parzen import choose_sigma, parzen_log_p
from bihm.machine.targetprop.machine import bind
from bihm.run.build import make_run
from bihm.run.evaluate import evaluate_parzen
from bihm.run.load import export, read_run
from bihm.run.sample import sample
from bihm.run.samples.sampling_options import Options
from bihm.run.train import train


def small(**model):
    """A run of a second on `bars`."""
    config = Config(layers=[6, 3], depth=2, batch_size=250, epochs=4)
    config.dataset.name, config.dataset.n_features = "bars", 16
    config.dataset.image_shape = [4, 4]
    config.model.name = "targetprop"
    config.model.N, config.model.delta, config.model.alpha = 2, 0.3, 0.1
    config.model.sample_N, config.model.rounds = 3, 2
    for key, value in model.items():
        setattr(config.model, key, value)
    config.optim.name, config.optim.lr = "sgd", 0.02
    config.stop.patience = None
    config.eval.every, config.eval.parzen_samples, config.eval.final_parzen_samples = 1, 20, 60
    config.checkpoint.every_seconds = 0.0
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("targetprop") / "run"
    return directory, train(small(), directory)


def test_it_learns_and_tells_densities_as_what_they_are(trained):
    directory, results = trained
    records = metrics(directory)
    errors = [record["valid/reconstruction/x"] for record in records]
    assert errors == sorted(errors, reverse=True)
    assert records[-1]["train/loss"] < records[0]["train/loss"]
    assert {f"valid/log_p_xh/step_{i:02d}" for i in range(4)} <= records[-1].keys()
    assert {"valid/reconstruction/h1", "train/mismatch", "valid/parzen_sigma"} <= records[-1].keys()
    for split, rows in (("test", 5000), ("valid", 1000)):
        block = results[split]
        assert block["examples"] == rows
        assert "not comparable with log p of bits" in block["densities"]
        assert "log_p" not in block
        assert block["parzen"]["samples"] == block["parzen_directed"]["samples"] == 60
        assert block["parzen_anchor"]["samples"] == 60
        assert len(block["log_p_xh_by_step"]) == 4
        assert block["log_p_xh"]["mean"] == block["log_p_xh_by_step"][-1]
        assert 0 <= block["log_p_xh_steps_down"] <= 1
    assert results["layers"] == [6, 3]


def test_its_columns_are_its_own(trained):
    events = (trained[0] / "events.out.tfevents.0000000000.hparams").read_bytes()
    ends = (trained[0] / "events.out.tfevents.9999999999.end").read_bytes()
    assert b"model.delta" in events
    for foreign in (b"p.layer", b"eval.z_outer", b"eval.final_K"):
        assert foreign not in events
    assert b"final/test/parzen" in ends
    assert b"final/test/log_p\n" not in ends
    lines = [path.read_bytes() for path in trained[0].glob("events.out.tfevents.1*")]
    for tag in (b"samples/generate", b"samples/directed", b"log_p_xh"):
        assert any(tag in line for line in lines)
    (row,) = bihm.results(trained[0])
    assert row["test.parzen"] == trained[1]["test"]["parzen"]["mean"]
    assert row["test.log_p"] is None


def test_a_sweep_shows_densities_only_where_there_are_some(trained, uninterrupted):
    folder = trained[0].parent
    head, line = sweep_table.lines([trained[0]], folder)
    assert "parzen_anchor" in head
    assert "log_p" not in head
    assert f"{trained[1]['test']['parzen']['mean']:.3f}" in line
    head, *_ = sweep_table.lines([trained[0], uninterrupted[0]], folder)
    assert "parzen" in head
    assert "log_p_star" in head
    assert "parzen" not in sweep_table.lines([uninterrupted[0]], folder)[0]


def test_an_interrupted_run_goes_on_bit_for_bit(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        StopAt(patch, 6)
        with pytest.raises(Interrupted):
            train(small(), tmp_path / "halves")
    assert numbers(train(small(), tmp_path / "halves")) == numbers(trained[1])
    records = [without_clock(metrics(where)) for where in (trained[0], tmp_path / "halves")]
    assert records[0] == records[1]


def test_the_estimate_again_is_that_of_the_run_and_of_its_weights(trained, tmp_path):
    directory, results = trained
    for machine in (read_run(directory), bihm.load(export(directory, str(tmp_path)))):
        block = evaluate_parzen(machine, split="test", samples=60, out=str(tmp_path))
        assert block == results["test"] == machine.parzen(samples=60)
    saved = json.loads((tmp_path / "eval-test-parzen60.json").read_text())
    assert saved.pop("parameters")
    assert saved == {"dataset": "bars", **results["test"]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["K=10"], "K cannot be had with model=targetprop, which has a density only"),
        (["per_example=true", "sandwich=true"], "per_example, sandwich cannot be had with model="),
        (None, "is of model=targetprop, which has no log p to mix: leave it out"),
    ],
)
def test_what_needs_a_likelihood_is_refused_in_one_line(trained, words, told, shell):
    run = f"run={trained[0]}" if words is not None else f"run={trained[0]},{trained[0]}"
    code, out, err = shell(evaluate_command, run, *(words or []))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_it_is_no_part_of_a_mixture(trained):
    with pytest.raises(ConfigError, match="no log p to mix: leave it out"):
        bihm.mixture(trained[0], trained[0])


def test_the_estimate_is_that_of_its_samples_with_sigma_from_valid(trained):
    machine = bihm.load(trained[0])
    samples = machine.family._draw(
        make_run(small()).keys.test, machine.structure, machine.params, 60, 2
    )
    assert samples.shape == (60, 16)
    sigma, _ = choose_sigma(machine.rows("valid"), samples)
    values = parzen_log_p(machine.rows("test"), samples, np.array([sigma]))[0]
    expected = trained[1]["test"]["parzen"]
    assert (expected["mean"], expected["sem"]) == mean_and_sem(values)
    assert expected["sigma"] == sigma


def test_another_family_has_the_estimate_too(uninterrupted):
    machine = read_run(uninterrupted[0])
    block = evaluate_parzen(machine, split="valid", samples=70, out=str(uninterrupted[0].parent))
    assert block["parzen"]["samples"] == 70
    assert machine.parzen("valid", 70) == block
    assert block["parzen_anchor"]["mean"] > block["parzen"]["mean"]  # an untrained machine's
    assert "parzen_directed" not in block
    assert "parzen_anchor" not in machine.parzen("train", 70)  # its rows would be their own samples


def test_its_top_has_the_moments_of_training_rows(trained):
    machine = bihm.load(trained[0])
    bound = bind(machine.structure, machine.params)
    assert (np.asarray(bound.top_variance[...]) < 0.2).all()
    assert not np.array_equal(bound.top_mean[...], [0.5] * 3)


@pytest.mark.long
def test_samples_and_completions_are_means_and_what_is_observed_stays(trained):
    machine = bihm.load(trained[0])
    x = machine.rows("test")[:5]
    for method in (None, "generate", "ancestral", "chain"):
        drawn = machine.sample(7, method)
        assert drawn.dtype == np.float32
        assert drawn.shape == (7, 16)
        assert ((drawn >= 0) & (drawn <= 1)).all()
    np.testing.assert_array_equal(machine.sample(7), machine.sample(7, "generate"))
    assert not np.array_equal(machine.sample(7), machine.sample(7, "ancestral"))
    known = np.arange(16) % 3 == 0
    filled = machine.complete(0.3 * x, known)
    np.testing.assert_array_equal(filled[:, known], (0.3 * x)[:, known])
    assert not np.array_equal(filled, machine.complete(0.3 * x, known, seed=1, sweeps=1))


def test_the_command_draws_rows_what_is_known_of_them_and_their_completions(trained, tmp_path):
    settings = {"mask": "left", "split": "valid", "out": str(tmp_path)}
    saved = sample(trained[0], Options(n=5, seed=3), **settings)
    file, png = saved.files
    assert (file.name, png.name) == ("samples-inpaint.npz", "samples-inpaint.png")
    with np.load(file) as arrays:
        left = arrays["observed"] == 1
        np.testing.assert_array_equal(arrays["x"][:, left], arrays["data"][:, left])
        assert ((arrays["x"] > 0) & (arrays["x"] < 1))[:, ~left].all()  # means
        rebuilt = bihm.load(trained[0]).complete(arrays["data"], "left", seed=3)
        np.testing.assert_array_equal(arrays["x"], rebuilt)
    picture = np.asarray(Image.open(png))
    assert picture.shape[1] > 3 * 4 * 7  # a row, what is known of it, its completion
    assert {0, 128, 208, 255} < set(np.unique(picture))  # and the greys of means


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.log_p(m.rows()), ConfigError, "no likelihood of bits"),
        (lambda m: m.posterior(m.rows()), ConfigError, "no likelihood of bits"),
        (lambda m: m.sample(3, "resample"), ConfigError, "generate, ancestral, chain"),
        (lambda m: m.sample(3, sweeps=4), ConfigError, "it belongs to chain and mask"),
        (lambda m: m.two_log_z(), ConfigError, "model=targetprop has no likelihood of bits"),
        (lambda m: m.sample(3, K=4), ConfigError, "K has no meaning with model=targetprop"),
        (lambda m: m.complete(m.rows()[:2] * 2, "left"), DataError, "numbers from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(trained, call, error, words):
    with pytest.raises(error, match=words) as caught:
        call(bihm.load(trained[0]))
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_run_whose_targets_run_away_ends_with_a_clear_word(tmp_path):
    config = small(noise_h=0.0, alpha=0.0, N=30)
    config.optim.name, config.optim.lr = "adam", 0.5
    with pytest.raises(NumbersError, match="the targets run away from") as caught:
        train(config, tmp_path / "run")
    assert "train/mismatch" in str(caught.value)
    assert "lower optim.lr" in str(caught.value)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_grey_levels_are_taken_as_they_are_and_bits_as_zero_and_one():
    family = make_run(small()).family
    rows = np.array([[0, 51, 255]], np.uint8)
    for see in (
        lambda rows, grey: family.see(jax.random.key(0), jax.numpy.asarray(rows), grey),
        lambda rows, grey: family.fixed_rows(rows, "valid", grey),
    ):
        np.testing.assert_allclose(see(rows, True), [[0, 0.2, 1]], rtol=1e-6)
        np.testing.assert_array_equal(see(rows[:, :1] + 1, False), [[1]])


def test_a_configuration_says_how_the_weights_start():
    def largest(**model):
        return float(abs(make_run(small(**model)).family.machine(None).f[0].w[...]).max())

    bound = (6 / (16 + 6)) ** 0.5
    assert 0.9 * bound < largest(weights="glorot") <= bound
    assert 0.9 * bound / 16 < largest(weights="authors") <= bound / 16
    assert largest() == largest(weights="orthogonal") != largest(weights="glorot")
