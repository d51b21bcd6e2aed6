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
    "bihm-eval   run=DIR sandwich=true repeats=5",
    "bihm-eval   run=DIR given=top",
    "bihm-sample run=DIR n=64 method=chain",
    "bihm-sample run=DIR n=32 mask=top",
    "bihm-export run=DIR",
    "bihm-report run=DIR",
    "bihm-data --help",
    "bihm-data list",
    "bihm-data import rows.csv --name mine",
]
# What takes longer than a test may: begun as it is written, and stopped once it trains.
BEGUN = [
    "bihm-train -m model=bihm,rws,wake_sleep seed=0,1,2",
    "bihm-train -m model=bihm,rws,wake_sleep",
]
# It says on stderr which rows it took, and what is doubtful about a small K.
WITH_NOTES = "bihm-eval run=DIR K=[1,10,100,1000,10000,100000] rows=200"
AFTER_THE_TOUR = "bihm-train like=RUN seed=1"  # likewise
SERVED = ["tensorboard --logdir outputs"]
# Scripts of the repository, in its root: run to their end, or stopped once they print what a run prints.
SCRIPTS = [
    "./scripts/run python scripts/benchmark/benchmark.py --parts step dataset=bars layers=[8]",
    "./scripts/run python scripts/faults/kills.py --kills 3",
]
SCRIPTS_BEGUN = {
    "BIHM_DATA=DATA ./scripts/run scripts/reproduce/tour.sh FOLDER": "epoch",
    "BIHM_DATA=DATA ./scripts/run scripts/reproduce/strength_of_q.sh FOLDER": "epoch",
    "BIHM_DATA=DATA ./scripts/run python scripts/reproduce/reproduce.py FOLDER": "begin",
    "BIHM_DATA=DATA ./scripts/run python scripts/reproduce/search.py FOLDER": "begin",
    "BIHM_DATA=DATA ./scripts/run python scripts/reproduce/depth.py FOLDER": "epoch",
    "BIHM_DATA=DATA ./scripts/run scripts/benchmark/bf16.sh FOLDER": "epoch",
    "./scripts/run python scripts/faults/mutants.py --minutes 2 --modules machine/rules.py": "",
}
FETCHED = "bihm-data fetch binarized_mnist adult"
ELSEWHERE = {
    "python scripts/tour.py": "by tests/scripts/test_tour.py",
    ".ci/run": "is what runs this",
    "./scripts/run pytest": "by .ci/run",
    "./scripts/run pytest -m long": "by .ci/run",
    "bihm-report sweep=DIR": "by tests/report/test_report.py",
    "bihm-eval run=A,B,C": "by tests/run/estimates/test_mixture.py",
    "bihm-eval run=outputs/published/bihm_darn_dna-seed0": "by tests/run/test_published.py",
}


def known():
    examples = [section("CONTRIBUTING.md", title) for title in EXAMPLES]  # their own test runs them
    return {
        *TOUR,
        *BEGUN,
        WITH_NOTES,
        AFTER_THE_TOUR,
        *SERVED,
        FETCHED,
        *SCRIPTS,
        *SCRIPTS_BEGUN,
        *ELSEWHERE,
        *(c for e in examples for c in commands_in(e)),
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_run_somewhere(document):
    for command in commands_in(text_of(document)):
        if FORM.search(command):
            continue
        assert {command, f"./scripts/run {command}"} & known(), command


def test_nothing_is_listed_that_no_document_says():
    said = {command for name in DOCUMENTS for command in commands_in(text_of(name))}
    own = {*TOUR, *BEGUN, WITH_NOTES, AFTER_THE_TOUR, *SERVED, FETCHED}
    own |= {*SCRIPTS, *SCRIPTS_BEGUN, *ELSEWHERE}
    assert own <= said


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


def run_to_its_end(command, place):
    done = subprocess.run(
        words_of(command, place),
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


@pytest.mark.long(seconds=300)  # it trains for a minute and a half on two idle cores
def test_the_tour_word_for_word(place):
    for command in TOUR:
        done = run_to_its_end(command, place)
        assert not done.stderr, f"{command}\n{done.stderr}"
        assert done.stdout
    done = run_to_its_end(WITH_NOTES, place)
    assert "200 of the 200 rows of split=test, drawn at random" in done.stderr
    assert len(re.findall(r"^test .* K=1", done.stdout, re.M)) == 6
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
def test_fetching_word_for_word(place):
    """With a network the data are there afterwards; without one, each says where it was looked for."""
    alone = {k: v for k, v in environment(place).items() if k != "BIHM_DATA"}
    done = subprocess.run(
        words_of(FETCHED, place), env=alone, capture_output=True, text=True, check=False
    )
    for name in ("binarized_mnist", "adult"):
        there = (place / "cache" / "data" / f"{name}.npz").is_file()
        assert there or f"bihm-data: {name} could not be fetched" in done.stderr
        assert there or done.returncode == 3
    assert "Traceback" not in done.stderr


def script(command, place):
    """Start a command that names a script of the repository, in a process group of its own."""
    words = shlex.split(command.removeprefix("BIHM_DATA=DATA ").removeprefix("./scripts/run "))
    return subprocess.Popen(
        [str(place / "folder") if word == "FOLDER" else word for word in words],
        cwd=ROOT,
        env=environment(place) | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.long(seconds=120)
@pytest.mark.parametrize("command", SCRIPTS)
def test_a_script_word_for_word(command, place):
    started = script(command, place)
    printed, _ = started.communicate(timeout=600)
    assert started.returncode == 0, printed
    assert printed


@LONG
@pytest.mark.parametrize("command", SCRIPTS_BEGUN)
def test_a_script_that_takes_long_begins(command, place):
    if "DATA" in command and "BIHM_DATA" not in os.environ:
        pytest.skip("needs the real datasets (BIHM_DATA)")
    started = script(command, place)
    assert started.stdout is not None
    printed = []
    for line in started.stdout:
        printed.append(line)
        if line.startswith(SCRIPTS_BEGUN[command]):
            break
    else:
        pytest.fail("".join(printed))
    os.killpg(started.pid, signal.SIGTERM)
    started.communicate(timeout=300)


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
