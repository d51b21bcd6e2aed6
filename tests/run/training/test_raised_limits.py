"""A run that is given more epochs, patience or time: it ends as if it had had them from the start."""

import json
import logging
import shutil

import pytest
from small_run import (
    EACH_EPOCH,
    StopAt,
    assert_same_state,
    metrics,
    numbers,
    saved,
    tiny,
    without_clock,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bihm.config import PhaseConfig, load
from bihm.errors import ConfigError, Interrupted
from bihm.run.train import train
from bihm.run.training import loop


def assert_same_run(one, other):
    """Two directories hold the same numbers, bit for bit, save for the clock."""
    results = [json.loads((path / "results.json").read_text()) for path in (one, other)]
    assert numbers(results[0]) == numbers(results[1])
    assert without_clock(metrics(one)) == without_clock(metrics(other))
    for state in ("latest", "best"):
        assert_same_state(getattr(saved(one), state), getattr(saved(other), state))


def test_a_finished_run_goes_on_to_more_epochs(uninterrupted, tmp_path):
    first = train(tiny(**EACH_EPOCH | {"epochs": 2}), tmp_path)
    assert first["train"]["epochs"] == 2
    train(tiny(**EACH_EPOCH), tmp_path)
    assert_same_run(tmp_path, uninterrupted[0])
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "finished"
    assert load(tmp_path / "config.yaml").epochs == 4
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [point.step for point in events.Scalars("valid/log_p")] == [20, 40, 60, 80]
    assert [point.step for point in events.Scalars("final/test/log_p")] == [80]


@pytest.mark.long
def test_with_an_average_in_its_last_phase_and_interrupted_on_the_way(tmp_path, monkeypatch):
    def config(epochs):
        phases = [PhaseConfig(epochs=1), PhaseConfig(lr=1e-2, epochs=epochs)]
        return tiny(**EACH_EPOCH, optim__average=0.9, optim__phases=phases)

    train(config(3), tmp_path / "whole")
    train(config(1), tmp_path / "run")
    with monkeypatch.context() as patch:
        StopAt(patch, 4)
        with pytest.raises(Interrupted):
            train(config(3), tmp_path / "run")
    train(config(3), tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.long
def test_more_patience_and_more_time(tmp_path, monkeypatch, caplog):
    """Nothing is learnt from the fourth epoch to the sixth."""
    original = loop.TrainingLoop._finish_epoch
    times = {"seconds": 0.0}

    def finish(self, chunk, rates):
        rate = rates.start * (0.0 if 3 <= self.epoch < 6 else 1.0)
        times["seconds"] += 1.0
        return original(self, chunk, rates._replace(start=rate, end=rate))

    monkeypatch.setattr(loop.TrainingLoop, "_finish_epoch", finish)
    slow = {"optim__lr": 0.1, "epochs": 9, "checkpoint__every_seconds": 0.0}
    train(tiny(**slow, stop__patience=5), tmp_path / "whole")
    first = train(tiny(**slow, stop__patience=2), tmp_path / "run")["train"]
    assert (first["epochs"], first["stopped_by"]) == (5, "patience")
    caplog.set_level(logging.INFO, "bihm")
    train(tiny(**slow | {"epochs": 20}, stop__patience=2), tmp_path / "run")
    assert "patience ended it, and only more of that lets it go on (epochs was 9" in caplog.text
    train(tiny(**slow, stop__patience=5), tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    monkeypatch.setattr(loop.TrainingLoop, "_seconds", lambda self: times["seconds"])
    times["seconds"] = 0.0
    timed = train(tiny(**slow, stop__patience=5, max_seconds=2.5), tmp_path / "timed")["train"]
    assert (timed["epochs"], timed["stopped_by"]) == (3, "max_seconds")
    train(tiny(**slow, stop__patience=5, max_seconds=None), tmp_path / "timed")
    assert_same_run(tmp_path / "timed", tmp_path / "whole")


@pytest.fixture(scope="module")
def cosine(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cosine") / "run"
    train(tiny(epochs=2, optim__schedule="cosine"), directory)
    return directory


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_cosine_rate_has_its_epochs_from_the_first_step(cosine, tmp_path, epochs):
    before = {path: path.read_bytes() for path in cosine.rglob("*") if path.is_file()}
    with pytest.raises(
        ConfigError, match=r"epochs was 2, now \d, but the rate of .*cosine depends"
    ):
        train(tiny(epochs=epochs, optim__schedule="cosine"), cosine)
    assert {path: path.read_bytes() for path in cosine.rglob("*") if path.is_file()} == before


def test_lower_limits_change_nothing_in_a_finished_run(uninterrupted, tmp_path):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    for change in (
        {"epochs": 2},
        {"stop__patience": 1},
        {"max_seconds": 0.1},
        {"max_seconds": 1e6},
    ):
        assert train(tiny(**EACH_EPOCH | change), run) == json.loads(json.dumps(uninterrupted[1]))
    assert (run / "config.yaml").read_text() == (uninterrupted[0] / "config.yaml").read_text()


@pytest.mark.long
def test_an_interrupted_run_cannot_have_been_shorter(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        StopAt(patch, 16)
        with pytest.raises(Interrupted):
            train(tiny(**EACH_EPOCH, stop__patience=9), tmp_path)
    done = int(saved(tmp_path).latest.step) / 20
    assert done > 1
    with pytest.raises(ConfigError, match=f"epochs was 4, now 1, but {done:g} are done"):
        train(tiny(**EACH_EPOCH | {"epochs": 1}, stop__patience=9), tmp_path)
    with pytest.raises(ConfigError, match="patience was 9, now 3"):
        train(tiny(**EACH_EPOCH, stop__patience=3), tmp_path)
    with pytest.raises(ConfigError, match="seed was 0, now 1"):
        train(tiny(**EACH_EPOCH | {"epochs": 8}, stop__patience=9, seed=1), tmp_path)
    assert train(tiny(**EACH_EPOCH), tmp_path)["train"]["epochs"] == 4


@pytest.mark.long
def test_a_phase_that_has_ended_keeps_its_limits(tmp_path):
    def config(first, last):
        return tiny(optim__phases=[PhaseConfig(epochs=first), PhaseConfig(epochs=last)])

    train(config(1, 1), tmp_path)
    with pytest.raises(ConfigError, match="limits of phase 1, which has ended, cannot change"):
        train(config(2, 2), tmp_path)
    assert train(config(1, 2), tmp_path)["train"]["epochs"] == 3


@pytest.mark.long
def test_a_run_that_goes_on_evaluates_as_often_as_before(tmp_path):
    """With eval.every=null the period follows from epochs and patience; a run keeps the one it has."""
    config = {"eval__every": None, "eval__K": 50, "stop__patience": 4}
    train(tiny(**config, epochs=2), tmp_path)
    train(tiny(**config | {"stop__patience": 40}, epochs=8), tmp_path)
    assert [record["epoch"] for record in metrics(tmp_path)] == [2, 4, 6, 8]
