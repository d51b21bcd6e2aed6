"""`key=value` arguments: what is read, and the one line that each mistake earns."""

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

import bihm
from bihm.cli.keyvalue import parse
from bihm.errors import ConfigError


@dataclass
class Arguments:
    run: str
    split: Literal["valid", "test"] = "test"
    n: int = 100
    seconds: float | None = 1.0
    per_example: bool = False
    dataset: str | None = None
    method: Literal["a", "b"] | None = None


def read(*words):
    return parse(words, Arguments, "bihm-x", "usage: bihm-x run=DIR\n")


def test_defaults_and_types():
    assert read("run=a") == Arguments("a", "test", 100, 1.0, False, None, None)
    assert read(
        "per_example=True", "n=-7", "seconds=2.5e3", "run=a", "split=valid", "dataset=x"
    ) == Arguments("a", "valid", -7, 2500.0, True, "x")
    assert read("run=a", "per_example=false", "seconds=null") == Arguments("a", seconds=None)
    assert read("run=a", "method=b") == Arguments("a", method="b")


@pytest.mark.parametrize(
    "text",
    [
        "a=b=c",
        "with space, comma",
        "007",
        "1e3",
        "${oc.env:HOME}",
        "[x]",
        "k: v",
        "???",
        "true",
        "'q'",
    ],
)
def test_values_are_literal(text):
    assert read(f"run={text}").run == text
    assert read("run=a", f"dataset={text}").dataset == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=a", "spilt=test"], "there is no key 'spilt'; did you mean 'split'?"),
        (["run=a", "--split=test"], "there is no key '--split'; did you mean 'split'?"),
        (["run=a", "zzz=1"], "there is no key 'zzz'; `bihm-x --help` shows all keys"),
        (["outputs/a"], "there is no key 'outputs/a'; `bihm-x --help` shows all keys"),
        (["run=a", "=3"], "there is no key ''; `bihm-x --help` shows all keys"),
        (["run=a\nb", "x\ny=1"], "there is no key 'x\\ny'; `bihm-x --help` shows all keys"),
        (["run"], "run needs a value: run=..."),
        (["run="], "run needs a value: run=..."),
        (["run=a", "n=1", "n=1"], "n is given twice"),
        (["n=1"], "run=... is missing; `bihm-x --help` shows all keys"),
        ([], "run=... is missing; `bihm-x --help` shows all keys"),
        (["run=a", "n=1.5"], "n must be a whole number, got '1.5'"),
        (["run=a", "n=null"], "n must be a whole number, got 'null'"),
        (["run=a", "n=1\n2"], "n must be a whole number, got '1\\n2'"),
        (["run=a", "seconds=soon"], "seconds must be a finite number, got 'soon'"),
        (["run=a", "seconds=nan"], "seconds must be a finite number, got 'nan'"),
        (["run=a", "per_example=1"], "per_example must be true or false, got '1'"),
        (["run=a", "method=c"], "method must be one of a, b, got 'c'"),
        (["run=a", "split=train"], "split must be one of valid, test, got 'train'"),
    ],
)
def test_a_mistake_dies_in_one_line(words, message):
    with pytest.raises(ConfigError) as caught:
        read(*words)
    assert str(caught.value) == message


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_comes_before_any_mistake(flag, capsys):
    with pytest.raises(SystemExit) as leaving:
        read("nonsense", flag)
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: bihm-x run=DIR\n")
    assert "BIHM_TRACEBACK=1" in out


def test_version_comes_before_any_mistake(capsys):
    with pytest.raises(SystemExit) as leaving:
        read("nonsense", "--version")
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"bihm-x {bihm.__version__}\n"


@pytest.mark.parametrize(
    ("text", "value"), [("1e3", 1000), ("1e5", 100_000), ("5.0", 5), ("-2E1", -20)]
)
def test_a_whole_number_may_be_written_as_a_float(text, value):
    got = read("run=a", f"n={text}").n
    assert (got, type(got)) == (value, int)


@pytest.mark.parametrize("text", ["2.5", "1e-1", "inf", "nan", "1e400", "1e3e", "0x10"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ConfigError, match="n must be a whole number, got"):
        read("run=a", f"n={text}")


def test_the_process_own_arguments_are_the_default(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bihm-x", "run=b"])
    assert parse(None, Arguments, "bihm-x", "").run == "b"


def test_parsing_imports_no_numerics():
    code = (
        "import sys, bihm.cli.keyvalue; print(sorted({'jax', 'numpy', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@dataclass
class Several:
    run: list[str]


def test_a_list_of_names_may_be_repeated_and_have_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x,y").mkdir()

    def names(*words):
        return parse(words, Several, "bihm-x", "usage\n").run

    assert names("run=a") == ["a"]
    assert names("run=a,b", "run=c=1") == ["a", "b", "c=1"]
    assert names("run=x,y", "run=y") == ["x,y", "y"]  # a folder that is there
    monkeypatch.setenv("HOME", "/home/me")
    assert names("run=~/a,~/b") == ["/home/me/a", "/home/me/b"]
    with pytest.raises(ConfigError, match=re.escape("run=... is missing")):
        names()
