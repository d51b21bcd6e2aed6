"""Paths are read literally, by every key that holds one and every command, however odd the name."""

import os
import shutil
from pathlib import Path

import pytest
from cases import rare
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from malformed import attempt, home
from small_run import tiny

from bihm.cli import command_words, evaluate, export, sample
from bihm.cli.keyvalue import parse
from bihm.cli.literal_paths import KEYS
from bihm.config import to_yaml

__all__ = ["home"]  # a fixture
PLAIN = [
    "a(1)",
    "k=v",
    "a#b",
    "a[1]",
    "[x]",
    "{a}",
    "é名",
    "with space",
    " edge ",
    "-x",
    "~",
    "~.x",
]
PLAIN += [
    "it's",
    'say"so',
    "a'b\"c",
    "back\\slash",
    "ends\\",
    "100%",
    "a;b",
    "a&b",
    "a:b",
    "007",
    "1e3",
]
PLAIN += ["true", "a$b", "$(x)", "!x", "*", "tab\tx", "choice(a)", "'q'", "null", "x/"]
NAMES = [*PLAIN, "a,b", "x(1),y(2)", "range(1,3)"]


def value(word: str) -> str:
    """What Hydra makes of a word."""
    return OverridesParser.create().parse_override(word).value()


def test_a_path_that_is_there_is_taken_as_it_is(home):
    for name in NAMES:
        Path(name).mkdir()
        (word,) = command_words.turn([f"dataset.path={name}"], False)
        assert value(word) == name
        assert command_words.turn([f"dataset.path={name}"], True) == [word]


def test_a_path_that_is_not_there_yet_is_taken_as_it_is(home):
    for name in {*NAMES} - {"~", "null", "'q'"}:
        assert value(command_words.turn([f"hydra.run.dir={name}"], False)[0]) == name


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize("key", KEYS)
def test_every_key_that_holds_a_path(plus, key, home):
    assert command_words.turn([f"{plus}{key}=a(1)=b"], False) == [f"{plus}{key}='a(1)=b'"]


def test_what_stays_for_hydra_to_read(home):
    for word in ("dataset.path=null", "dataset.path=", "dataset.path='a b'", "K=a(1)", "K"):
        assert command_words.turn([word], False) == [word]
    for word in ("dataset.path=choice(a,b)", "dataset.path='a',b", "dataset.path=a,"):
        assert command_words.turn([word], True) == [word]
    assert (
        value(command_words.turn(["hydra.run.dir=a(1)/${now:%Y,%m}"], True)[0])
        == "a(1)/${now:%Y,%m}"
    )


def test_a_comma_separates_in_a_sweep_unless_a_file_has_it(home):
    assert command_words.turn(["dataset.path=a(1),b"], True) == ["dataset.path='a(1)','b'"]
    Path("a(1),b").touch()
    assert command_words.turn(["dataset.path=a(1),b"], True) == ["dataset.path='a(1),b'"]
    assert command_words.turn(["dataset.path=a,b"], False) == ["dataset.path='a,b'"]


def test_a_tilde_is_the_home_folder_unless_a_file_has_it(home, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert command_words.turn(["hydra.run.dir=~/x"], False) == ["hydra.run.dir='/somewhere/x'"]
    assert parse(["run=~/x"], export.Command, "", "").run == "/somewhere/x"
    Path("~").mkdir()
    Path("~/x").mkdir()
    assert command_words.turn(["hydra.run.dir=~/x"], False) == ["hydra.run.dir='~/x'"]
    assert parse(["run=~/x"], export.Command, "", "").run == "~/x"


@pytest.fixture
def seen(home, monkeypatch):
    """What each job would have trained on, and where."""
    jobs = []

    def record(config, directory, interactive):
        jobs.append((config, Path(directory)))
        return {"valid": {"log_p": {"mean": 0.0}}}

    monkeypatch.setattr("bihm.run.train.train", record)
    monkeypatch.setattr("bihm.data.require", lambda name, path: None)
    return jobs


@pytest.mark.parametrize("name", ["a(1)=#", "007", *rare("a,[b]", "é ~", "it's \\")])
def test_a_run_reads_and_writes_there(name, home, seen):
    Path(name).touch()
    row = ["bihm-train", "dataset=file", f"dataset.path={name}", f"hydra.run.dir=runs/{name}"]
    code, _, err, _ = attempt(row)
    assert (code, err) == (0, "")
    ((config, directory),) = seen
    assert config.dataset.path == str(home / name)
    assert directory == home / "runs" / name
    assert directory.is_dir()


def test_the_jobs_of_a_sweep_have_one_path_each(home):
    names = [name for name in PLAIN if not {"'", '"'} & set(name) and name != "~"]
    given = command_words.turn(
        [f"dataset.path={','.join(names)}", "hydra.sweep.dir=s (1),=#"], True
    )
    parsed = OverridesParser.create().parse_overrides(given)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    assert [value(job[0]) for job in jobs] == names
    assert {value(job[1]) for job in jobs} == {"s (1),=#"}


def test_a_dollar_brace_is_an_interpolation_and_dies_in_one_line(home):
    Path("a${b}").touch()
    code, _, err, _ = attempt(["bihm-train", "dataset=file", "dataset.path=a${b}"])
    assert (code, err.count("\n")) == (2, 1)
    assert "Interpolation key 'b' not found" in err


def test_the_other_commands_take_a_path_as_it_is(home):
    for name in {*NAMES} - {"null"}:  # that one is ./null
        Path(name).mkdir()
        for key, schema in (
            ("run", evaluate.Command),
            ("weights", evaluate.Command),
            ("dataset", evaluate.Command),
            ("mask", sample.Command),
            ("out", export.Command),
        ):
            given = parse([f"run={name}", f"{key}={name}"][key == "run" :], schema, "", "")
            assert getattr(given, key) == name


def saved(name, **changes):
    os.makedirs(name, exist_ok=True)
    (Path(name) / "config.yaml").write_text(to_yaml(tiny(**changes)))


@pytest.mark.parametrize("name", ["it's \\, 007", *rare("a(1)=#", "é名")])
def test_like_takes_a_path_as_it_is(name, home, seen):
    saved(name, K=7)
    assert attempt(["bihm-train", f"like={name}"])[::2][:1] == (0,)
    assert seen[0][0].K == 7


@pytest.mark.long
def test_a_run_with_an_awkward_name_is_evaluated_sampled_and_exported(
    uninterrupted, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "é [1] (2)=3,#'~"
    shutil.copytree(uninterrupted[0], run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bihm.runtime.configure_jax", lambda: None)
    export.main([f"run={run.name}/", f"out={run.name}.safetensors"])
    evaluate.main([f"weights={run.name}.safetensors", "K=2"])
    evaluate.main([f"run={run.name}", "K=2"])
    sample.main([f"run={run.name}", "n=2"])
    assert (run / "eval-test-K2.json").is_file()
    assert (tmp_path / f"{run.name}.safetensors.eval-test-K2.json").is_file()
    assert (run / "samples-ancestral.npz").is_file()
