"""One line and one exit code for one cause, in every command; a sweep tells of all its jobs."""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from cases import rare
from malformed import MAINS, attempt, home

from bihm import __version__
from bihm.cli import export
from bihm.errors import BihmError, ConfigError, DataError, NumbersError, as_bihm_error

__all__ = ["home"]  # a fixture

COMMANDS = {  # words that need no run or data, and what such a command meets first
    "bihm-train": (["dataset=bars"], "bihm.data.require"),
    "bihm-eval": (["run=a"], "bihm.cli.evaluate.require_run"),
    "bihm-sample": (["run=a"], "bihm.cli.sample.require_run"),
    "bihm-export": (["run=a"], "bihm.cli.export.require_run"),
    "bihm-report": (["run=a"], "bihm.cli.report.require_any"),
    "bihm-data": (["fetch", "nltcs"], "bihm.data.fetch"),
}


class JaxRuntimeError(RuntimeError):
    """Of the name by which jax's is known."""


def too_large():
    """What numpy says of an array that no machine can hold."""
    try:
        np.empty((2**50,), np.float64)
    except MemoryError as error:
        return error
    raise AssertionError


CAUSES = [
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "out of memory"),
    (MemoryError("std::bad_alloc"), 1, "out of memory"),
    (too_large(), 1, "out of memory: 9.01 PB wanted"),
    (
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
        1,
        "out of memory: 9 B",
    ),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "out of memory"),
    (ImportError("a.so: failed to map segment from shared object"), 1, "out of memory"),
    (ImportError("cannot import name 'a'"), 1, "unexpected ImportError: cannot import"),
    (OSError(errno.EIO, "Input/output error", "a/b"), 1, "a/b: Input/output error"),
    (OSError(errno.ENOSPC, "No space left on device", "c"), 1, "c: No space left on device; make"),
    (
        PermissionError(errno.EACCES, "Permission denied", "d"),
        2,
        "d: Permission denied",
    ),
    (
        OSError(errno.EROFS, "Read-only file system", "e"),
        2,
        "e: Read-only",
    ),
    (FileNotFoundError(errno.ENOENT, "No such file", "f"), 2, "f: No such file"),
    (KeyError("lost"), 1, "unexpected KeyError: 'lost'; BIHM_TRACEBACK=1 shows the traceback"),
    (
        RecursionError("too deep\nand more"),
        1,
        "unexpected RecursionError: too deep; BIHM_TRACEBACK",
    ),
    (JaxRuntimeError("INTERNAL: no luck"), 1, "unexpected JaxRuntimeError: INTERNAL: no luck"),
    (AssertionError(), 1, "unexpected AssertionError; BIHM_TRACEBACK"),
    (BihmError("b"), 1, "b"),
    (ConfigError("c"), 2, "c"),
    (DataError("d"), 3, "d"),
    (NumbersError("e"), 4, "e"),
]


@pytest.fixture
def mains(monkeypatch):
    monkeypatch.setitem(MAINS, "bihm-export", export.main)


def raising(error):
    def fail(*args, **named):
        raise error

    return fail


# Hydra takes its second for each row.
FEW = [KeyboardInterrupt, JaxRuntimeError, PermissionError, KeyError, DataError]
ROWS = [
    (command, *cause)
    for command in COMMANDS
    for cause in CAUSES
    if command != "bihm-train" or type(cause[0]) in FEW
]


@pytest.mark.parametrize(
    ("command", "error", "code", "line"),
    ROWS,
    ids=lambda part: type(part).__name__ if isinstance(part, BaseException) else None,
)
def test_each_cause_has_one_line_and_one_code(command, error, code, line, home, mains, monkeypatch):
    words, place = COMMANDS[command]
    monkeypatch.setattr(place, raising(error))
    got, out, err, _ = attempt([command, *words])
    assert (got, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith(f"{command}: {line}"), err


@pytest.mark.parametrize("name", ["SIGTERM", *rare("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")])
def test_a_signal_before_training_ends_the_command_with_a_word(name, home, mains, monkeypatch):
    number = signal.Signals[name]
    monkeypatch.setattr("bihm.data.require", lambda *args: os.kill(os.getpid(), number))
    got, out, err, _ = attempt(["bihm-train", "dataset=bars", "hydra.run.dir=run"])
    assert (got, out) == (75, "")
    assert err == f"bihm-train: stopped by {name}; the same command goes on from here\n"
    assert not (home / "run" / "status.json").exists()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so(home, mains, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    monkeypatch.setattr("bihm.data.require", lambda *args: os.kill(os.getpid(), signal.SIGHUP))
    monkeypatch.setattr("bihm.run.train.train", raising(ConfigError("this far")))
    try:
        assert attempt(["bihm-train", "dataset=bars"])[::2] == (2, "bihm-train: this far\n")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_variable_shows_the_traceback(command, home, mains, monkeypatch):
    words, place = COMMANDS[command]
    monkeypatch.setattr(place, raising(KeyError("lost")))
    for value, shown in (("1", True), ("0", False)):
        monkeypatch.setenv("BIHM_TRACEBACK", value)
        got, _, err, _ = attempt([command, *words])
        assert got == 1
        assert ("in fail\n" in err) == shown
        assert err.splitlines()[-1].startswith(f"{command}: unexpected KeyError: 'lost'")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_version(command, home, mains):
    got, out, err, _ = attempt([command, "--version"])
    assert (got, out, err) == (0, f"{command} {__version__}\n", "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "INTERNAL: Error dispatching computation: Out of memory allocating 156466766336 bytes.",
            "156 GB",
        ),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 145.72GiB.", "156 GB"),
        (
            "RESOURCE_EXHAUSTED: Failed to allocate request for 1.00GiB (1073741824B) on device",
            "1.07 GB",
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.48G hbm.",
            "21.5 GB",
        ),
        ("Unable to allocate 1.42 TiB for an array: std::bad_alloc", "1.56 TB"),
        ("RESOURCE_EXHAUSTED: attempting to allocate 999600000 bytes", "1 GB"),
        ("RESOURCE_EXHAUSTED: no figures here", None),
    ],
)
def test_how_much_memory_was_wanted(text, wanted):
    size = "" if wanted is None else f": {wanted} wanted"
    assert str(as_bihm_error(JaxRuntimeError(text), "lower K")) == f"out of memory{size}; lower K"


def python(cwd, code, *words, **environment):
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$0" -c "$1" "${{@:2}}" {code}', sys.executable,
         "from bihm.cli.data import main; main()", *words],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_who_reads_no_more_is_told_nothing(tmp_path):
    """The list is out in one piece; of a check after it nothing is known, which is no success."""
    quiet = python(tmp_path, "| (exec <&-; sleep 2)", "list", PYTHONUNBUFFERED="")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    begun = python(
        tmp_path, "| (exec <&-; sleep 2)", "check", "digits", "digits", PYTHONUNBUFFERED="1"
    )
    assert (begun.returncode, begun.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_under_the_output_is_told(tmp_path):
    done = python(tmp_path, "> /dev/full", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("bihm-data: No space left on device")
    assert done.stderr.count("\n") == 1


# Stands in for a trainer that takes a library's error for K=2, another for K=3, and is killed for K=4.
SWEEP = """
import os, json, sys
from pathlib import Path
import bihm.runtime, bihm.run.train
from bihm.records.run_files import write_json, write_status, write_text
from bihm.config import to_yaml

class JaxRuntimeError(RuntimeError): pass
class Gone(BaseException): pass

def train(config, directory, interactive):
    write_text(directory / "config.yaml", to_yaml(config))
    write_status(directory, "running")
    if config.K == 2:
        raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 156466766336 bytes.")
    if config.K == 3:
        raise KeyError("lost")
    if config.K == 4:
        raise Gone  # as a launcher that gives up
    write_status(directory, "finished")
    block = {"log_p": {"mean": -1.0, "sem": 0.1}}
    write_json(directory / "results.json", {"test": block})
    return {"valid": block}

bihm.run.train.train = train
bihm.runtime.configure_jax = lambda: None
from bihm.cli.train import main
main()
"""


def sweep(cwd, *words):
    return subprocess.run(
        [sys.executable, "-c", SWEEP, "dataset=bars", *words],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_sweep_tells_of_all_its_jobs_whatever_ended_one(tmp_path):
    done = sweep(tmp_path, "K=1,2,3,5", "-m", "hydra.sweep.dir=all")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    end = done.stdout[done.stdout.index("2 of 4 jobs finished") :].splitlines()
    log = tmp_path / "all" / "2-K=3" / "train.log"
    assert [line.split()[0] for line in end[2:4]] == ["0-K=1", "3-K=5"]
    assert end[4:] == [
        "1-K=2: failed: out of memory: 156 GB wanted; lower K or batch_size",
        f"2-K=3: failed: unexpected KeyError: 'lost'; the traceback is in {log}",
    ]
    assert "in train\n" in log.read_text()
    assert "in train\n" in (tmp_path / "all" / "1-K=2" / "train.log").read_text()
    assert not (tmp_path / "all" / ".jobs").exists()


@pytest.mark.long
def test_a_sweep_tells_of_a_job_that_was_killed_and_of_those_that_never_began(tmp_path):
    done = sweep(tmp_path, "-m", "K=1,4,5", "hydra.sweep.dir=all")
    assert "1 of 3 jobs finished" in done.stdout
    assert "\n1 more did not start\n" in done.stdout
    assert "1-K=4: failed: it ended without a word" in done.stdout
    assert done.returncode == 1
    assert not (tmp_path / "all" / ".jobs").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("K", "line"),
    [
        (2, "out of memory: 156 GB wanted; lower K or batch_size"),
        (3, "unexpected KeyError: 'lost'; the traceback is in {}"),
    ],
)
def test_a_single_run_says_the_same_and_keeps_the_traceback(tmp_path, K, line):
    done = sweep(tmp_path, f"K={K}", "hydra.run.dir=run")
    log = tmp_path / "run" / "train.log"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"bihm-train: {line.format(log)}\n"
    assert "Traceback" in log.read_text()


SHARED = "several jobs would use the folder"


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["K=1,5", "hydra.sweep.subdir=x"],
        ["K=1,5", "seed=1,2", "hydra.sweep.subdir=s${seed}"],
        ["K=1,5", "hydra.sweep.subdir=./${model.name}/"],
    ],
)
def test_jobs_that_would_share_a_folder_are_refused_before_any_work(tmp_path, words):
    done = sweep(tmp_path, "-m", "hydra.sweep.dir=all", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bihm-train: {SHARED} ")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_equal_jobs_in_one_folder_are_told_apart(tmp_path):
    done = sweep(tmp_path, "-m", "K=5,5", "hydra.sweep.dir=all", "hydra.sweep.subdir=x")
    assert "1 of 2 jobs finished" in done.stdout
    assert f"x: failed: ConfigError: {SHARED}" in done.stdout
    assert json.loads((tmp_path / "all/x/status.json").read_text())["status"] == "finished"


@pytest.mark.long
def test_a_sweep_finds_its_jobs_again(tmp_path):
    words = ["model=rws,bihm", "-m", "seed=0,1", "layers=[6,3]", "K=5", "hydra.sweep.dir=all"]
    for _ in range(2):
        assert "4 of 4 jobs finished" in sweep(tmp_path, *words).stdout
        assert sorted(os.listdir(tmp_path / "all")) == [
            "0-model=rws,seed=0", "1-model=rws,seed=1", "2-model=bihm,seed=0", "3-model=bihm,seed=1",
            "mean-over-seeds", "multirun.yaml",
        ]  # fmt: skip
