"""Published runs: what git keeps of a run gives its numbers again, and stays as it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_run import EACH_EPOCH, tiny

import bihm
from bihm.config import load as load_config
from bihm.data import find
from bihm.errors import DataError
from bihm.run.evaluate import evaluate
from bihm.run.load import export, read_run
from bihm.run.train import train

KEPT = Path(__file__).parents[2] / "outputs" / "published"
ALL = sorted(path.parent for path in KEPT.glob("*/results.json"))
RUNS = [
    run for run in ALL if (run / "weights.safetensors").is_file()
]  # of the others numbers alone
FILES = ("config.yaml", "results.json", "status.json", ".checkpointed")


@pytest.fixture
def published(uninterrupted, tmp_path):
    """A run as it is published."""
    folder = tmp_path / "published"
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(uninterrupted[0] / name, folder / name)
    export(uninterrupted[0], str(folder / "weights.safetensors"))
    return folder


def test_a_published_run_gives_its_numbers_again(published, uninterrupted):
    K = tiny(**EACH_EPOCH).eval.final_K
    assert evaluate(read_run(published), split="test", K=K) == uninterrupted[1]["test"]
    assert (published / f"eval-test-K{K}.json").is_file()
    one, other = bihm.load(published), bihm.load(uninterrupted[0])
    np.testing.assert_array_equal(one.sample(5), other.sample(5))


def test_of_a_run_published_without_weights_there_are_numbers_alone(published, uninterrupted):
    (published / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"parameters are gone: .*; bihm-train like=.*published "):
        bihm.load(published)
    assert train(tiny(**EACH_EPOCH), published) == uninterrupted[1]


def test_training_leaves_a_published_run_as_it_is(published, uninterrupted):
    before = {path: path.read_bytes() for path in published.iterdir()}
    assert train(tiny(**EACH_EPOCH), published) == uninterrupted[1]
    with pytest.raises(DataError, match="the checkpoints of this run are gone"):
        train(tiny(**EACH_EPOCH | {"epochs": 9}), published)
    assert {path: path.read_bytes() for path in before} == before


def test_weights_of_another_run_are_refused(published, tmp_path):
    train(tiny(epochs=1, seed=1), tmp_path / "other")
    export(tmp_path / "other", str(published / "weights.safetensors"))
    with pytest.raises(DataError, match=r"weights\.safetensors: is of another run: seed was 1"):
        read_run(published)


def test_exported_weights_do_not_stand_in_for_lost_checkpoints(published, uninterrupted, tmp_path):
    run = shutil.copytree(uninterrupted[0], tmp_path / "run")
    shutil.copyfile(published / "weights.safetensors", run / "weights.safetensors")
    for array in (run / "checkpoints").rglob("*"):
        if array.is_file():
            array.write_bytes(b"")
    with pytest.raises(DataError, match="no checkpoint is whole"):
        read_run(run)


def again(run):
    """The estimate of a published run's test rows, and what it was, within what samples allow."""
    results = json.loads((run / "results.json").read_text())["test"]
    machine = bihm.load(run)
    found = machine.estimates(machine.rows(), results["K"])
    # log (1/K) sum_k w_k has variance (1 / ESS - 1) / K; another processor may draw other samples.
    error = np.sqrt(2 * (1 / found.ess_p - 1).mean() / results["K"] / len(found.ess_p))
    assert abs(found.log_p.mean() - results["log_p"]["mean"]) < 5 * error + 1e-4


def seconds(run):
    """What its estimate takes on a busy core: 30e9 of its products a second."""
    results = json.loads((run / "results.json").read_text())
    return results["parameters"] * results["test"]["K"] * results["test"]["examples"] / 30e9


def needs_data(run):
    name = load_config(run / "config.yaml").dataset.name
    if find(name) is None:
        pytest.skip(f"{name} is not in $BIHM_DATA")


@pytest.mark.long
def test_what_is_published_is_small_and_whole():
    assert sum(path.stat().st_size for path in KEPT.rglob("*") if path.is_file()) < 20e6
    for run in ALL:
        assert all((run / name).is_file() for name in (*FILES, "made_by.json")), run
    for run in RUNS:
        results = json.loads((run / "results.json").read_text())
        assert read_run(run).parameters == results["parameters"]


def mixed(recipe):
    """log p of the ensemble of a recipe's seeds, if it was made."""
    file = KEPT / f"{recipe}-mixture.json"
    return json.loads(file.read_text())["log_p"]["mean"] if file.is_file() else None


def test_the_winner_on_each_set_is_published_with_its_weights():
    numbers = {}  # by set, then by recipe: the likelihood of each seed
    for run in ALL:
        recipe = run.name.rpartition("-")[0]
        results = json.loads((run / "results.json").read_text())
        of_set = numbers.setdefault(results["dataset"], {})
        of_set.setdefault(recipe, []).append(results["test"]["log_p"]["mean"])
    kept = [run.name for run in RUNS]
    for of_set in numbers.values():
        claimed = {recipe: seeds for recipe, seeds in of_set.items() if len(seeds) > 2} or of_set
        best = {  # of the machines of a recipe and of their ensemble
            recipe: [max(filter(None, (np.mean(seeds), mixed(recipe))))]
            for recipe, seeds in of_set.items()
        }
        winners = (max(some, key=lambda recipe: np.mean(some[recipe])) for some in (best, claimed))
        assert any(f"{winner}-seed0" in kept for winner in winners)  # one seed alone is no claim


@pytest.mark.data
@pytest.mark.parametrize("run", [run for run in RUNS if run.name == "bihm_darn_dna-seed0"])
def test_one_published_number_is_made_again(run):
    needs_data(run)
    again(run)


@pytest.mark.data
@pytest.mark.parametrize(
    "run",
    [pytest.param(run, marks=pytest.mark.long(seconds=seconds(run)), id=run.name) for run in RUNS],
)
def test_every_published_number_is_made_again(run):
    needs_data(run)
    again(run)
