"""A run from its first step to its results: files, stopping, resuming, breaking."""

import json
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare
from PIL import Image
from small_run import (
    EACH_EPOCH,
    StopAt,
    arrays_in,
    assert_same_state,
    metrics,
    numbers,
    saved,
    tiny,
    without_clock,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bihm.config import PhaseConfig
from bihm.errors import ConfigError, DataError, Interrupted, NumbersError
from bihm.records.run_files import read_json
from bihm.run.build import phases
from bihm.run.evaluate import evaluate
from bihm.run.load import read_run
from bihm.run.train import train
from bihm.run.trained import TrainedMachine
from bihm.run.training import loop
from bihm.signals import stop_request


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished") / "run"
    return directory, train(tiny(), directory)


def test_a_run_leaves_the_files_of_the_interface(finished):
    directory, results = finished
    files = {path.name for path in directory.iterdir() if not path.name.startswith(("events", "."))}
    assert files == {"config.yaml", "checkpoints", "metrics.jsonl", "results.json", "status.json"}
    assert list(directory.glob("events.out.tfevents.*"))
    assert json.loads((directory / "results.json").read_text()) == json.loads(json.dumps(results))
    status = json.loads((directory / "status.json").read_text())
    assert status["status"] == "finished"


def test_results_have_the_promised_form(finished):
    _, results = finished
    assert list(results) == [
        *("schema", "model", "dataset", "layers", "parameters", "seed", "train"),
        *("test", "valid", "device", "versions", "arithmetic"),
    ]
    assert results["schema"] == 1
    assert results["layers"] == [6, 3]
    assert results["parameters"] == 16 + 6 * 16 + 6 + 6 * 3 + 3 + 16 * 6 + 6 + 6 * 3 + 3
    assert results["train"].keys() == {"epochs", "steps", "best_epoch", "seconds", "stopped_by"}
    assert results["train"]["steps"] == 4 * 20
    assert results["train"]["stopped_by"] == "epochs"
    test = results["test"]
    assert list(test) == [
        *("examples", "K", "log_p", "log_p_tilde_star", "log_p_star", "two_log_z"),
        *("ess_p", "ess_p_star", "high_k_hat_p", "high_k_hat_p_star"),
    ]
    assert (test["examples"], test["K"]) == (5000, 15)
    z = test["two_log_z"]
    assert list(z) == ["mean", "stderr", "low", "high", "outer", "inner"]
    assert (z["outer"], z["inner"]) == (800, 5)
    gap = test["log_p_star"]["mean"] - test["log_p_tilde_star"]["mean"]
    assert gap == pytest.approx(-z["mean"])
    sem = np.hypot(test["log_p_tilde_star"]["sem"], z["stderr"])
    assert test["log_p_star"]["sem"] == pytest.approx(sem)


@pytest.mark.long
@pytest.mark.long
def test_a_program_that_lets_jax_have_64_bits_trains_the_same(uninterrupted, tmp_path):
    with jax.enable_x64(True):
        results = train(tiny(**EACH_EPOCH), tmp_path / "run")
    assert numbers(results) == numbers(uninterrupted[1])


def test_a_run_says_which_of_its_keys_have_no_effect(tmp_path, monkeypatch, caplog):
    def no_training(*_):
        raise ConfigError("far enough")

    monkeypatch.setattr("bihm.run.training.loop.TrainingLoop.train", no_training)
    with pytest.raises(ConfigError, match="far enough"):
        train(tiny(model__name="rws", eval__z_inner=9), tmp_path / "run")
    assert "eval.z_inner=9 has no effect: 2 log Z belongs to model=bihm" in caplog.messages


def test_rws_has_no_p_star(tmp_path):
    results = train(tiny(model__name="rws", epochs=1), tmp_path / "run")
    assert list(results["test"]) == ["examples", "K", "log_p", "ess_p", "high_k_hat_p"]


def test_metrics_hold_one_line_an_evaluation(finished):
    records = metrics(finished[0])
    assert [r["step"] for r in records] == [20, 40, 60, 80]
    assert [r["epoch"] for r in records] == [1, 2, 3, 4]
    wanted = {
        *("train/loss", "train/log_p", "valid/log_p", "valid/log_p_sem", "valid/log_p_tilde_star"),
        *("valid/ess_p", "valid/ess_p_star", "valid/two_log_z", "grad_norm/q.0.w"),
        "weight_norm/p.2.b",
    }
    assert all(wanted <= r.keys() for r in records)


def test_tensorboard_sees_scalars_text_hparams_and_pictures(finished):
    events = EventAccumulator(str(finished[0]), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"valid/log_p", "valid/two_log_z", "final/test/log_p"} <= set(tags["scalars"])
    assert {"samples/p", "weights/p_x_given_h1"} <= set(tags["images"])
    assert "config" in tags["tensors"]
    picture = events.Images("samples/p")[-1]
    assert picture.width == picture.height
    assert Image is not None
    plugin = events.summary_metadata
    assert "_hparams_/session_start_info" in plugin
    assert "_hparams_/session_end_info" in plugin


def test_the_best_checkpoint_has_the_score_it_claims(tmp_path):
    # The second phase goes on from the best with so high a rate that nothing better follows.
    config = tiny(epochs=3)
    config.optim.phases = [PhaseConfig(), PhaseConfig(lr=30.0)]
    results = train(config, tmp_path / "run")
    records = metrics(tmp_path / "run")
    scores = [r["valid/log_p_tilde_star"] for r in records]
    best = int(np.argmax(scores))
    assert results["train"]["best_epoch"] == best + 1
    assert best + 1 <= 3
    assert len(records) == 6
    checkpoint = saved(tmp_path / "run")
    assert checkpoint.memory["best_score"] == scores[best]
    assert int(checkpoint.best.step) == records[best]["step"]
    assert int(checkpoint.latest.step) == records[-1]["step"]


def test_a_finished_run_is_not_done_again(finished):
    directory, results = finished
    before = (directory / "metrics.jsonl").stat().st_mtime_ns
    assert train(tiny(), directory) == json.loads(json.dumps(results))
    assert (directory / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 3}, "seed was 0, now 3"),
        ({"depth": 1, "layers": [6]}, r"depth was 2, now 1, layers was \[6, 3\], now \[6\]"),
        ({"model__name": "rws"}, "model.name was bihm, now rws"),
        (
            {"dataset__name": "digits", "dataset__n_features": 64, "dataset__image_shape": [8, 8]},
            "dataset.n_features was 16, now 64",
        ),
    ],
    ids=["seed", "depth", "rule", "dataset"],
)
def test_another_configuration_may_not_go_on_in_the_same_directory(finished, change, says):
    directory, _ = finished
    with pytest.raises(ConfigError, match=f"holds another run: .*{says}.*; choose another"):
        train(tiny(**change), directory)


def test_how_long_a_run_may_take_is_free_to_change(finished):
    directory, _ = finished
    assert train(tiny(max_seconds=5.0), directory)["train"]["epochs"] == 4


RESUMED = {
    "epochs": 3,
    "optim__average": 0.9,
    "optim__schedule": "cosine",
    "optim__phases": [PhaseConfig(epochs=2), PhaseConfig(lr=1e-4, epochs=1)],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts, in chunks of 7 steps."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bihm.run.build.LONGEST_CHUNK", 7)
        return directory, train(tiny(**RESUMED), directory)


@pytest.mark.parametrize(
    "stops", [[1, 2, 1], *(pytest.param(s, marks=pytest.mark.long) for s in ([30], [3], [5]))]
)
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, whole, stops):
    """In the middle of epochs, at their end, in estimates on the way and at the end, several times."""
    monkeypatch.setattr("bihm.run.build.LONGEST_CHUNK", 7)
    for chunks in stops:
        with monkeypatch.context() as patch:
            StopAt(patch, chunks)
            with pytest.raises(Interrupted):
                train(tiny(**RESUMED), tmp_path)
        status = json.loads((tmp_path / "status.json").read_text())
        assert status["status"] == "interrupted"
    assert numbers(train(tiny(**RESUMED), tmp_path)) == numbers(whole[1])
    assert_same_state(saved(tmp_path).latest, saved(whole[0]).latest)
    assert_same_state(saved(tmp_path).best, saved(whole[0]).best)
    assert without_clock(metrics(tmp_path)) == without_clock(metrics(whole[0]))


@pytest.mark.long
def test_a_run_that_dies_after_an_evaluation_that_it_did_not_save_logs_it_once(
    tmp_path, monkeypatch
):
    """Stopped inside an estimate, it saves the moment before; then it evaluates, logs, and dies."""
    config = tiny()
    with monkeypatch.context() as patch:
        StopAt(patch, 5)  # in the estimates after the first epoch
        with pytest.raises(Interrupted):
            train(config, tmp_path)
    checkpoint = saved(tmp_path)
    assert (checkpoint.memory["evaluated_step"], int(checkpoint.latest.step)) == (0, 20)

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_save_if_due", die)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert [record["step"] for record in metrics(tmp_path)] == [20]
    train(config, tmp_path)
    assert [record["step"] for record in metrics(tmp_path)] == [20, 40, 60, 80]


STOPPING = ["SIGTERM", "SIGUSR1", *rare("SIGHUP", "SIGXCPU")]


@pytest.mark.parametrize("name", STOPPING)
def test_a_real_signal_stops_a_run_cleanly(tmp_path, name):
    config = tiny(epochs=100_000)
    original = loop.TrainingLoop._evaluate

    def evaluate_then_signal(self):
        original(self)
        if self.epoch == 2:
            signal.raise_signal(getattr(signal, name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_evaluate", evaluate_then_signal)
        with pytest.raises(Interrupted, match=name):
            train(config, tmp_path / "run")
    assert read_json(tmp_path / "run" / "status.json")["status"] == "interrupted"
    assert signal.getsignal(getattr(signal, name)) == signal.SIG_DFL
    assert int(saved(tmp_path / "run").latest.step) == 3 * 20


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=["nohup", "in a script's &"])
def test_what_is_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_request() as stop:
            signal.raise_signal(number)
            assert stop.signal is None
            signal.raise_signal(signal.SIGUSR1)
            assert stop.signal == "SIGUSR1"
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.long
def test_patience_epochs_and_time_end_a_run_whichever_comes_first(tmp_path):
    restless = tiny(optim__lr=0.3, epochs=50, stop__patience=2)
    results = train(restless, tmp_path / "patience")
    assert results["train"]["stopped_by"] == "patience"
    assert results["train"]["epochs"] == results["train"]["best_epoch"] + 2
    timed = train(tiny(epochs=100_000, max_seconds=1.0), tmp_path / "time")
    assert timed["train"]["stopped_by"] == "max_seconds"
    assert timed["train"]["epochs"] < 100_000
    assert metrics(tmp_path / "time")[-1]["step"] == timed["train"]["steps"]


def test_a_phase_follows_when_patience_runs_out_and_starts_from_the_best(tmp_path, monkeypatch):
    config = tiny(optim__lr=0.3, stop__patience=2, epochs=20)
    config.optim.phases = [PhaseConfig(), PhaseConfig(lr=1e-9)]
    states = []
    original = loop.TrainingLoop._next_phase

    def watch(self):
        original(self)
        states.append((self.state, self.best, self.step))

    monkeypatch.setattr(loop.TrainingLoop, "_next_phase", watch)
    monkeypatch.setattr(loop, "_copy", lambda tree: jax.tree.map(jnp.copy, tree))
    results = train(config, tmp_path / "run")
    assert len(states) == 1
    memory = saved(tmp_path / "run").memory
    assert memory["phase"] == 1
    assert 0 < memory["phase_step"] < results["train"]["steps"]
    assert results["train"]["stopped_by"] == "patience"


def test_phases_inherit_what_they_do_not_say():
    config = tiny(stop__patience=7)
    config.optim.phases = [PhaseConfig(lr=1e-2), PhaseConfig(K=100, epochs=9, patience=2)]
    first, second = phases(config)
    assert (first.K, first.lr, first.epochs, first.patience) == (4, 1e-2, 4, 7)
    assert (second.K, second.lr, second.epochs, second.patience) == (100, 1e-3, 9, 2)
    assert second.lr_end == second.lr  # constant
    config.optim.schedule = "cosine"
    assert phases(config)[1].lr_end == 1e-4


@pytest.mark.parametrize("where", ["first", "later"])
def test_broken_numbers_end_a_run_and_keep_the_last_good_checkpoint(tmp_path, monkeypatch, where):
    config = tiny(epochs=6, checkpoint__every_seconds=0.0)
    if where == "first":
        config.optim.lr = 1e38
    else:
        original = loop.TrainingLoop._evaluate

        def poison(self):
            original(self)
            if self.epoch == 3:
                self.state = self.state._replace(
                    params=jax.tree.map(lambda w: w * jnp.nan, self.state.params)
                )
                self.checkpoints.save = lambda checkpoint: None  # this moment would not be saved

        monkeypatch.setattr(loop.TrainingLoop, "_evaluate", poison)
    with pytest.raises(NumbersError, match=r"is (nan|-?inf) at step \d+") as caught:
        train(config, tmp_path / "run")
    assert caught.value.exit_code == 4
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert "at step" in status["reason"]
    if where == "later":
        assert "at step 61" in str(caught.value)
        good = saved(tmp_path / "run")
        assert int(good.latest.step) == 40
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good.latest.params))


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "K=1,layers=[8,4]",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("a[1]x", "back\\slash", "*?")),
    ],
)
def test_a_run_may_have_any_name(name, tmp_path):
    """Orbax takes a path for a pattern."""
    run = tmp_path / name / "run"
    with pytest.MonkeyPatch.context() as patch:
        StopAt(patch, 3)
        with pytest.raises(Interrupted):
            train(tiny(**EACH_EPOCH), run)
    results = train(tiny(**EACH_EPOCH), run)
    assert evaluate(read_run(run), split="test", K=15) == results["test"]
    assert list((run / "checkpoints").glob("*.damaged")) == []


def test_a_finished_run_stays_as_it_is(finished, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    before = (run / "config.yaml").read_text()
    assert train(tiny(max_seconds=100.0), run) == finished[1]
    assert (run / "config.yaml").read_text() == before
    (run / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"holds the results of a run but not its config\.yaml"):
        train(tiny(seed=5), run)
    assert not (run / "config.yaml").exists()


def test_two_runs_cannot_share_a_directory(tmp_path):
    from bihm.records.locks import lock

    (tmp_path / "run").mkdir()
    with (
        lock(tmp_path / "run"),
        pytest.raises(ConfigError, match="in use by another process"),
    ):
        train(tiny(), tmp_path / "run")


def test_evaluate_again_at_any_k_and_row_by_row(finished):
    directory, results = finished
    block = evaluate(read_run(directory), split="test", K=30, per_example=True)
    assert block["K"] == 30
    assert json.loads((directory / "eval-test-K30.json").read_text())["log_p"] == block["log_p"]
    rows = arrays_in(directory / "eval-test-K30.npz")
    estimates = {"log_p", "log_p_tilde_star", "ess_p", "ess_p_star"}
    assert set(rows) == estimates | {"k_hat_p", "k_hat_p_star"}
    assert rows["log_p"].shape == (5000,)
    assert rows["log_p"].mean(dtype=np.float64) == pytest.approx(block["log_p"]["mean"])
    error = 5 * np.hypot(block["log_p"]["sem"], results["test"]["log_p"]["sem"])
    assert abs(block["log_p"]["mean"] - results["test"]["log_p"]["mean"]) < error
    rows = np.tile(np.eye(16, dtype=np.uint8), (40, 1))  # enough for the tiles of the run
    np.save(directory.parent / "other.npy", rows)
    other = evaluate(
        read_run(directory), split="train", K=5, dataset=str(directory.parent / "other.npy")
    )
    assert 400 < other["examples"] < 640
    with pytest.raises(ConfigError, match="digits has 64 features"):
        evaluate(read_run(directory), split="test", K=5, dataset="digits")
    with pytest.raises(ConfigError, match="not a run directory"):
        evaluate(read_run(directory.parent), split="test", K=5)


def test_a_run_without_a_checkpoint_cannot_be_evaluated(tmp_path):
    from bihm.config import to_yaml

    (tmp_path / "config.yaml").write_text(to_yaml(tiny()))
    with pytest.raises(DataError, match="no checkpoint"):
        evaluate(read_run(tmp_path), split="test", K=5)


def test_batches_larger_than_the_data_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="larger than the 5000 training rows"):
        train(tiny(batch_size=5001), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_results_of_a_run_with_an_average_are_those_of_the_average(whole):
    """What was trained last, without its average, would give other numbers."""
    directory, results = whole
    trained, best = read_run(directory), saved(directory).best
    assert_same_state(trained.params, best.average)
    assert evaluate(trained, split="test", K=15) == results["test"]
    last = TrainedMachine(trained.config, trained.structure, best.params, trained.stem)
    assert evaluate(last, split="test", K=15) != results["test"]
