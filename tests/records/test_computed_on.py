"""What a run has been computed on: recorded, kept over a resume, told when it changes."""

import json
import logging
import os
import subprocess
import sys

import pytest
from small_run import EACH_EPOCH, StopAt, metrics, tiny, without_clock

from bihm import runtime
from bihm.errors import Interrupted
from bihm.records import computed_on
from bihm.records.computed_on import note_arithmetic
from bihm.run import train as run_train
from bihm.run.train import train

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def test_places_are_listed_in_order_and_changes_told(tmp_path, caplog):
    one, two = {"threads": 1, "jax": "a"}, {"threads": 2, "jax": "a"}
    assert note_arithmetic(tmp_path, one, fresh=False) == [
        one
    ]  # a run of before there was a record
    assert note_arithmetic(tmp_path, one, fresh=False) == [one]
    assert not caplog.records
    assert note_arithmetic(tmp_path, two, fresh=False) == [one, two]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("threads was 1, now 2: ")
    assert note_arithmetic(tmp_path, one, fresh=False) == [one, two, one]
    assert note_arithmetic(tmp_path, two, fresh=True) == [two]  # nothing of the others is left
    for damage in ("", "{", "[1]", "{}", "null", "[" * 100_000):
        (tmp_path / ".arithmetic").write_text(damage)
        assert note_arithmetic(tmp_path, one, fresh=False) == [one]


@pytest.mark.long
def test_a_run_that_moves_says_so_and_its_results_list_both_places(tmp_path, monkeypatch, caplog):
    here = computed_on.arithmetic("f32")
    with monkeypatch.context() as patch:
        patch.setattr(run_train, "arithmetic", lambda *given: here | {"threads": 64})
        StopAt(patch, 3)
        with pytest.raises(Interrupted):
            train(tiny(**EACH_EPOCH), tmp_path)
    with caplog.at_level(logging.WARNING, "bihm"):
        results = train(tiny(**EACH_EPOCH), tmp_path)
    assert results["arithmetic"] == [here | {"threads": 64}, here]
    assert f"threads was 64, now {here['threads']}" in caplog.text


def test_what_the_numbers_depend_on_is_named():
    here = computed_on.arithmetic("bf16")
    assert here["precision"] == "bf16"
    assert here["threads"] == runtime.threads() >= 1
    assert {
        "processor",
        "device",
        "devices",
        "jax",
        "jaxlib",
        "threefry_partitionable",
    } <= here.keys()
    assert json.loads(json.dumps(here)) == here


@pytest.mark.parametrize("recorded", [None, True, 0, -1, 10**9, "2", [2]])
def test_a_strange_record_sets_no_threads(tmp_path, monkeypatch, recorded):
    monkeypatch.setattr(computed_on, "_held", False)
    for name in runtime.THREADS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".arithmetic").write_text(json.dumps([{"threads": recorded}]))
    computed_on.hold_threads(tmp_path)
    assert runtime.THREADS[0] not in os.environ


def test_the_users_number_of_threads_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(computed_on, "_held", False)
    monkeypatch.setenv("NPROC", "3")
    (tmp_path / ".arithmetic").write_text('[{"threads": 2}]')
    computed_on.hold_threads(tmp_path)
    assert runtime.threads() == 3
    monkeypatch.setenv("PJRT_NPROC", "5")
    assert runtime.threads() == 5


@pytest.mark.long
@pytest.mark.skipif(CORES < 2, reason="one core, or a system that pins none")
def test_a_run_goes_on_bit_for_bit_on_fewer_cores(tmp_path):
    """Begun with two threads, gone on with on one core: long sums are split between threads as before."""

    def command(directory, cores, *more):
        words = ["layers=[60,30]", "dataset=digits", "stop.patience=null", "eval.every=2", *more]
        words += [f"hydra.run.dir={directory}", "eval.final_K=10", "eval.final_z_outer=200"]
        pin = (
            f"import os; os.sched_setaffinity(0, {cores}); from bihm.cli.train import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", pin, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first, second = sorted(os.sched_getaffinity(0))[:2]
    command(tmp_path / "stayed", {first, second}, "epochs=4")
    command(tmp_path / "moved", {first, second}, "epochs=2")
    assert "computing with 2 threads, as this run began" in command(
        tmp_path / "moved", {first}, "epochs=4"
    )
    command(tmp_path / "alone", {first}, "epochs=4")
    records = [without_clock(metrics(tmp_path / name)) for name in ("stayed", "moved", "alone")]
    assert records[0] == records[1]
    assert records[0] != records[2]  # the number of threads does matter
