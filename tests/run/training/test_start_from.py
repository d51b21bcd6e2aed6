"""A new run that starts from the parameters of another run or of a weights file."""

import shutil

import jax
import numpy as np
import pytest
from small_run import StopAt, saved, tiny

from bihm.config import load
from bihm.errors import ConfigError, DataError, Interrupted
from bihm.run.load import export, read_run
from bihm.run.train import train

STILL = {"optim__lr": 1e-30, "epochs": 1}  # a run that stays where it starts


def starting(source, **changes):
    config = tiny(**STILL | changes)
    config.init["from"] = str(source)
    return config


def assert_started_from(directory, source):
    parameters = (read_run(path).params for path in (directory, source))
    jax.tree.map(np.testing.assert_array_equal, *parameters)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["run", "weights"])
def test_a_run_starts_from_the_best_of_another(uninterrupted, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(uninterrupted[0].parent)
    source = uninterrupted[0].name  # relative
    if kind == "weights":
        source = export(uninterrupted[0], str(tmp_path / "a.safetensors"))
    train(starting(source, seed=7, model__name="rws"), tmp_path / "run")
    assert_started_from(tmp_path / "run", uninterrupted[0])
    assert load(tmp_path / "run" / "config.yaml").init["from"].startswith("/")


@pytest.mark.long
def test_an_average_starts_there_too_and_the_optimiser_anew(uninterrupted, tmp_path):
    train(starting(uninterrupted[0], optim__average=0.9, optim__lr=1e-3), tmp_path / "run")
    assert int(saved(tmp_path / "run").latest.step) == 20


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": [6, 4]}, r"p\.1\.w has shape \(3, 6\); this run's machine needs \(4, 6\)"),
        ({"layers": [6], "depth": 1}, r"has p\.1\.w, which this run's machine does not have"),
        ({"p__layer": "darn"}, r"has no p\.0\.a, which .* needs in shape \(16, 16\)"),
    ],
)
def test_other_shapes_are_refused_in_one_line(uninterrupted, tmp_path, change, says):
    with pytest.raises(ConfigError, match=rf"init\.from=.*: {says}"):
        train(starting(uninterrupted[0], **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_family_is_refused_by_name(uninterrupted, tmp_path):
    told = "is of model=bihm; its parameters are none of model=targetprop"
    with pytest.raises(ConfigError, match=told):
        train(starting(uninterrupted[0], model__name="targetprop"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_the_same_shapes_of_other_layers_are_refused(tmp_path):
    train(tiny(**STILL, q__layer="dsbn", q__activation="tanh"), tmp_path / "one")
    with pytest.raises(ConfigError, match="its layers differ from this run's in their options"):
        train(starting(tmp_path / "one", q__layer="dsbn", q__activation="relu"), tmp_path / "run")


def test_what_is_not_there_or_no_run_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no weights")
    for name, kind, says in (
        ("absent", ConfigError, "there is no such run directory or weights file"),
        (
            "empty",
            ConfigError,
            r"^init\.from=/\S+/empty is not a run directory: it has no config\.yaml$",
        ),
        ("text", DataError, "not a safetensors file"),
    ):
        with pytest.raises(kind, match=says):
            train(starting(tmp_path / name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_once_there_is_a_checkpoint_the_source_need_not_exist(uninterrupted, tmp_path, monkeypatch):
    source = shutil.copytree(uninterrupted[0], tmp_path / "source")
    with monkeypatch.context() as patch:
        StopAt(patch, 1)
        with pytest.raises(Interrupted):
            train(starting(source), tmp_path / "run")
    shutil.rmtree(source)
    train(starting(source), tmp_path / "run")
    assert_started_from(tmp_path / "run", uninterrupted[0])


@pytest.mark.long
def test_without_a_checkpoint_another_source_of_that_name_is_noticed(
    uninterrupted, tmp_path, monkeypatch
):
    """Killed in its first save: what orbax had begun is no checkpoint."""
    source = shutil.copytree(uninterrupted[0], tmp_path / "source")

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bihm.run.training.loop.TrainingLoop.train", die)
        with pytest.raises(KeyboardInterrupt):
            train(starting(source), tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "0.orbax-checkpoint-tmp").mkdir(parents=True)
    shutil.rmtree(source)
    with pytest.raises(ConfigError, match="there is no such run"):
        train(starting(source), tmp_path / "run")
    train(tiny(**STILL, seed=3), source)
    with pytest.raises(DataError, match="other parameters than when"):
        train(starting(source), tmp_path / "run")
    shutil.rmtree(source)
    shutil.copytree(uninterrupted[0], source)
    train(starting(source), tmp_path / "run")
    assert_started_from(tmp_path / "run", uninterrupted[0])
