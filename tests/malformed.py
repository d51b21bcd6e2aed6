"""Runs a command as a user would, but in this process, and holds the outcome against one row of a table.

A row is (words, exit code, fragment): the words as one string, split at blanks, or as a list; the fragment
must stand in the one line that the command prints.
"""

import contextlib
import importlib
import io
import sys
import time
from pathlib import Path

import pytest

from bihm.cli import data, evaluate, report, sample, train

MAINS = {
    "bihm-train": train.main,
    "bihm-data": data.main,
    "bihm-eval": evaluate.main,
    "bihm-sample": sample.main,
    "bihm-report": report.main,
}
SECONDS = 3  # of the processor: a busy machine must not fail a row


def words_of(row: tuple) -> list[str]:
    return row[0].split(" ") if isinstance(row[0], str) else list(row[0])


def name_of(row: tuple) -> str:
    return " ".join(words_of(row)).removeprefix("bihm-").encode("ascii", "replace").decode()[:80]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working directory with nothing in `$BIHM_DATA`, and no training, whatever happens."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setenv("BIHM_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("bihm.runtime.configure_jax", lambda: None)
    monkeypatch.setattr("bihm.run.training.loop.TrainingLoop.train", no_training)
    # Hydra composes once more to look for hydra.mode, which no row sets.
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *args, **named: None)
    # Python's logging cannot be set up twice in a process that also captures logs, as pytest does.
    for place in ("core.utils", "_internal.hydra", "_internal.core_plugins.basic_launcher"):
        # Not by its dotted name: Hydra's search for plugins leaves modules that no package knows of.
        module = importlib.import_module(f"hydra.{place}")
        monkeypatch.setattr(module, "configure_log", only_make_the_file)
    return tmp_path / "home"


def only_make_the_file(logging, verbose):
    if "file" in logging.handlers:
        Path(logging.handlers.file.filename).touch()


def no_training(*args):
    raise AssertionError("this row should have been refused, and trains")


def attempt(words: list[str]) -> tuple[int, str, str, float]:
    """Exit code, stdout, stderr, seconds; an exception other than an exit is a failed test."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, list(words)
    code, start = 0, time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            MAINS[words[0]]()
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = argv
    return code, out.getvalue(), err.getvalue(), time.process_time() - start


def check(row: tuple, home: Path) -> None:
    """Code, one line with the fragment, quick, and nothing left behind in home or cache."""
    words, (_, code, fragment) = words_of(row), row
    before = sorted(home.parent.rglob("*"))
    got, _, err, seconds = attempt(words)
    assert (got, err.count("\n")) == (code, 1), err
    assert err.startswith(f"{words[0]}: "), err
    assert fragment in err, err
    assert seconds < SECONDS
    assert sorted(home.parent.rglob("*")) == before
