"""Faults that somebody found who tried to break the commands and the door."""

import threading

import numpy as np
import pytest
from malformed import attempt, home

import bihm
from bihm.records.run_files import place

__all__ = ["home"]  # a fixture


@pytest.mark.parametrize("name", ["config.yaml", "results.json", "status.json", "train.log"])
def test_no_out_replaces_a_runs_own_file(name, uninterrupted):
    with pytest.raises(bihm.ConfigError, match="is a run's own file"):
        place(str(uninterrupted[0] / name), uninterrupted[0] / "weights.safetensors")
    assert place(None, uninterrupted[0] / "weights.safetensors").name == "weights.safetensors"


def test_no_out_replaces_a_device(tmp_path):
    with pytest.raises(bihm.ConfigError, match="is no regular file"):
        place("/dev/null", tmp_path / "weights.safetensors")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(bihm.ConfigError, match="is no regular file"):
        place(str(tmp_path / "link"), tmp_path / "weights.safetensors")


def test_what_a_machine_is_given_is_not_guessed_at(uninterrupted):
    machine = bihm.load(uninterrupted[0])
    x = machine.rows()[:2]
    masked = np.ma.masked_array(x, mask=np.eye(*x.shape))
    with pytest.raises(bihm.DataError, match="x has masked entries"):
        machine.log_p(masked, K=3)
    for wrong in (lambda: machine.log_p(x, K=True), lambda: machine.sample(True)):
        with pytest.raises(bihm.ConfigError, match="must be a whole number"):
            wrong()


@pytest.mark.parametrize("path", [None, 3, ["a"], b"a", "", "a\0b"])
def test_what_is_no_path_is_one_line(path):
    with pytest.raises(bihm.ConfigError, match="must be the path of a file or folder"):
        bihm._path(
            "folder", path
        )  # the tests' own checks of types would refuse it before the door does


def test_words_are_composed_in_several_threads():
    from bihm.cli.compose import compose_words

    seeds: list[int] = []

    def compose(seed):
        seeds.append(compose_words([f"seed={seed}"])[0].seed)

    threads = [threading.Thread(target=compose, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seeds) == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lr=0.1"], "there is no key 'lr'; did you mean 'optim.lr'?"),
        (["optim.lr=1e39"], "optim.lr must be at most 3.4e+38"),
        (["like=a", "like=b"], "like is given twice"),
        (["like=a"], "like=a is not a run directory: there is no such folder"),
        (["init.from=here", "hydra.run.dir=here"], "is this run's own directory"),
    ],
)
def test_a_command_says_it_in_one_line(home, words, line):
    code, _, error, _ = attempt(["bihm-train", *words])
    assert (code, error.count("\n")) == (2, 1), error
    assert line in error


def test_a_broken_recipe_is_told_with_its_line(home, tmp_path):
    folder = tmp_path / "recipes" / "experiment"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("# @package _global_\nK: 3\nseed: a: b\n")
    words = [f"--config-dir={folder.parent}", "experiment=broken"]
    code, _, error, _ = attempt(["bihm-train", *words])
    assert code == 2
    assert "broken.yaml: line 3: mapping values are not allowed here" in error


def test_a_folder_in_the_place_of_run_is_recognised(home, uninterrupted):
    code, _, error, _ = attempt(["bihm-eval", str(uninterrupted[0])])
    assert code == 2
    assert f"did you mean 'run={uninterrupted[0]}'?" in error
