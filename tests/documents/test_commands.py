"""Every command of the documents is run as it is written: here, by `.ci/run`, or begun and stopped."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from document_texts import DOCUMENTS, EXAMPLES, FORM, ROOT, commands_in, section, text_of

PROGRAMS = Path(sys.executable).parent
LONG = pytest.mark.long

# What is run here, in this order, in one directory; DIR and RUN stand for that of the first run.
TOUR = [
    "./scripts/run bihm-train model=bihm depth=12",
    "bihm-train --cfg job --resolve",
    "bihm-eval   run=DIR K=100000 per_example=true",
    "bihm-sample run=DIR n=64 method=chain",
    "bihm-sample run=DIR n=32 mask=top",
    "bihm-export run=DIR",
    "bihm-data --help",
    "bihm-data list",
    "bihm-data import rows.csv --name mine",
]
# What takes longer than a test may: begun as it is written, and stopped once it trains.
BEGUN = [
    "bihm-train -m model=bihm,rws,wake_sleep seed=0,1,2",
    "bihm-train -m model=bihm,rws,wake_sleep",
]
AFTER_THE_TOUR = "bihm-train like=RUN seed=1"  # likewise
SERVED = ["tensorboard --logdir outputs"]
ELSEWHERE = {
    "python scripts/tour.py": "by tests/scripts/test_tour.py",
    ".ci/run": "is what runs this",
    "./scripts/run pytest": "by .ci/run",
    "./scripts/run pytest -m long": "by .ci/run",
    "bihm-data fetch binarized_mnist adult": "needs a network; tests/data/test_fetch.py has a server",
}


def known():
    examples = [section("CONTRIBUTING.md", title) for title in EXAMPLES]  # their own test runs them
    return {
        *TOUR,
        *BEGUN,
        AFTER_THE_TOUR,
        *SERVED,
        *ELSEWHERE,
        *(c for e in examples for c in commands_in(e)),
    }


def scripts_of(command):
    return [ROOT / word for word in command.split() if word.startswith("scripts/")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_run_somewhere(document):
    for command in commands_in(text_of(document)):
        if FORM.search(command):
            continue
        scripts = scripts_of(command)
        if scripts:  # tests/scripts runs these, smaller
            assert all(script.is_file() for script in scripts), command
        else:
            assert {command, f"./scripts/run {command}"} & known(), command


def test_nothing_is_listed_that_no_document_says():
    said = {command for name in DOCUMENTS for command in commands_in(text_of(name))}
    assert {*TOUR, *BEGUN, AFTER_THE_TOUR, *SERVED, *ELSEWHERE} <= said


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory to work in, with a table of somebody's rows."""
    folder = tmp_path_factory.mktemp("tour")
    rows = np.random.default_rng(0).integers(0, 2, (50, 6))
    np.savetxt(folder / "rows.csv", rows, fmt="%d", delimiter=",")
    return folder


def words_of(command, place):
    """The words of a command, with the program of this environment and the run's own directory."""
    program, *words = shlex.split(command.removeprefix("./scripts/run "))
    runs = [str(run) for run in sorted((place / "outputs").glob("digits/*/*"))] or ["none yet"]
    return [str(PROGRAMS / program), *(re.sub(r"\b(DIR|RUN)$", runs[0], word) for word in words)]


def environment(place):
    return os.environ | {"BIHM_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}


@LONG
def test_the_tour_word_for_word(place):
    for command in TOUR:
        done = subprocess.run(
            words_of(command, place),
            cwd=place,
            env=environment(place),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert not done.stderr, f"{command}\n{done.stderr}"
        assert done.stdout
    begin_and_stop(AFTER_THE_TOUR, place)


@LONG
def test_the_python_of_the_readme_runs(place):
    (program,) = re.findall(r"```python\n(.*?)```", text_of("README.md"), re.S)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert -30 < float(done.stdout) < -15


def begin_and_stop(command, place):
    """Wait for the first estimate, which says that it trains; then ask it to stop."""
    begun = subprocess.Popen(
        words_of(command, place),
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert begun.stdout is not None
    for line in begun.stdout:
        if line.startswith("epoch"):
            break
    begun.send_signal(signal.SIGTERM)
    _, error = begun.communicate(timeout=300)
    assert begun.returncode == 75, error


@LONG
@pytest.mark.parametrize("command", BEGUN)
def test_what_takes_long_begins_and_stops_when_asked(command, place):
    begin_and_stop(command, place)


@LONG
def test_tensorboard_serves_what_the_tour_left(place):
    (command,) = SERVED
    server = subprocess.Popen(
        [*words_of(command, place), "--port", "16006"], cwd=place, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen("http://localhost:16006/data/runs") as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
    finally:
        server.terminate()
        server.wait()
