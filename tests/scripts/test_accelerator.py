"""`scripts/accelerator/run` on processors: every part in order, bounded, and told in one folder."""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "accelerator"))
from facts import name_of, packages_of
from hlo import Program
from mnist import PIECE, pack
from prove import bounded, counts, run_parts
from table import table

FOLDER = Path(__file__).parents[2] / "scripts" / "accelerator"


def run(*words, **variables):
    env = {**os.environ, "PYTHON": sys.executable, "JAX_PLATFORMS": "cpu", **variables}
    return subprocess.run(
        [FOLDER / "run", *map(str, words)], capture_output=True, text=True, check=False, env=env
    )


@pytest.mark.device
def test_all_parts_run_within_their_time(tmp_path):
    done = run("--minutes", "8", "--small", "--out", tmp_path / "out")
    log = (tmp_path / "out" / "log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    assert measured["tests"]["counts"]["passed"] >= 10
    assert measured["tests"]["counts"]["not passed"] == []
    assert measured["kernels"]["small f32"]["kernels_per_step"] > 10
    assert measured["kernels"]["small f32"]["kernels_around_the_steps"] >= 0
    assert measured["benchmark"]["small"]["steps_per_second"] > 0
    assert measured["benchmark"]["small estimate K=20"]["rows_per_second"] > 0
    assert measured["mnist"]["results"]["test"]["K"] == 20
    with tarfile.open(tmp_path / "out" / "mnist-run.tar.00") as tar:
        assert "run/results.json" in tar.getnames()
    assert (tmp_path / "out" / "mnist.safetensors").is_file()
    assert all(
        part in done.stdout for part in ("-- tests", "-- kernels", "-- benchmark", "-- mnist")
    )


@pytest.mark.device
def test_a_training_run_that_does_not_end_goes_on(tmp_path):
    endless = "epochs=1000000 stop.patience=null"  # a fast machine would run out of patience
    words = ["--small", "--out", tmp_path / "out", "--parts", "mnist", "--train", endless]
    steps = []
    for _ in range(2):
        # Most of it for the start, also on a busy machine: whoever stops before it ends has no checkpoint.
        assert run("--minutes", "1.2", *words).returncode == 1
        block = json.loads((tmp_path / "out" / "measured.json").read_text())["mnist"]
        assert block["exit_code"] == 75
        steps.append(block["curve"][-1]["step"])
    assert 0 < steps[0] < steps[1]
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "going on from the checkpoint" in log


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--parts", "tests,mnits"], "'mnits' is none of tests, kernels, benchmark, mnist"),
        (["--minutes", "0"], "--minutes 0.0 is not between 0 and a day"),
        (["--packages", "/nowhere"], "--packages /nowhere: no such folder"),
    ],
)
def test_wrong_words_are_told_in_one_line(words, line, tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "prove.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert line in done.stderr.splitlines()[-1]


def test_a_part_that_does_not_end_is_ended(tmp_path):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('no')); time.sleep(60)"
    )
    with (tmp_path / "log").open("a") as log:
        code = bounded([sys.executable, "-c", stubborn], dict(os.environ), 1.0, log, mercy=0.5)
    assert code != 0
    assert "no end in 1 s: SIGINT" in (tmp_path / "log").read_text()


def test_no_part_begins_when_the_time_is_over(tmp_path, capsys):
    """To install packages may take all of it."""
    wanted = argparse.Namespace(parts=["tests", "mnist"], small=True, train="")
    with (tmp_path / "log").open("a") as log:
        codes = run_parts(wanted, tmp_path, dict(os.environ), time.monotonic() - 50, log)
    assert codes == {"tests": -1, "mnist": -1}
    assert capsys.readouterr().out == "tests: no time left\nmnist: no time left\n"


def test_only_what_is_lacking_is_installed(tmp_path):
    folder, place = tmp_path / "packages", tmp_path / "place"
    (folder / "data").mkdir(parents=True)
    (folder / "numpy-0.1-py3-none-any.whl").write_text("no wheel at all")  # numpy is here
    env = packages_of(folder, place)
    assert not place.exists()
    assert env["BIHM_DATA"] == str(folder / "data")
    assert (
        name_of(Path("antlr4_python3_runtime-4.9.3-py3-none-any.whl")) == "antlr4-python3-runtime"
    )


HLO = """\
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%turn (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %y = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused_computation
  %s = ((f32[8]{0}), f32[8]{0}) fusion-start(%x), kind=kLoop, calls=%fused_computation.1
  %e = f32[8]{0} fusion-done(%s)
  %n = f32[] fusion(%y), kind=kInput, calls=%fused_reduce
  %z = (f32[8]{0}, s8[4]{0}) custom-call(%y, %n), custom_call_target="__cublas$gemm"
  ROOT %r = (s32[], f32[8]{0}) tuple(%n, %z)
}

%more (t: (s32[], f32[8])) -> pred[] {
  %t = (s32[], f32[8]{0}) parameter(0)
  ROOT %p = pred[] fusion(%t), kind=kLoop, calls=%compare
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %c = f32[8]{0} copy(%x)
  %w = (s32[], f32[8]{0}) while(%c), condition=%more, body=%turn, config={"known_trip_count":{"n":"7"}}
  ROOT %o = f32[8]{0} get-tuple-element(%w), index=1
}
"""


def test_kernels_are_counted_once_a_turn():
    program = Program.of(HLO)
    a_turn = program.kernels(program.training_loop())
    assert a_turn == {"fusion": 2, "fusion with a sum": 1, "product (library)": 1}
    assert program.kernels(program.entry).total() == 7 * 4 + 1
    unknown = Program.of(HLO.replace("known_trip_count", "no_such_thing"))
    assert unknown.kernels("main") == {**a_turn, "copy": 1, "fusion": 3, "unknown turns": 1}


def test_pieces_together_are_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("mnist.PIECE", 1000)
    assert 60_000_000 > 15_000_000 > PIECE > 10_000_000
    (tmp_path / "run").mkdir()
    content = os.urandom(5000)
    (tmp_path / "run" / "weights").write_bytes(content)
    (tmp_path / "mnist-run.tar.99").write_text("of a longer run before")
    names = pack(tmp_path / "run", tmp_path)
    assert names == sorted(path.name for path in tmp_path.glob("mnist-run.tar*"))
    (tmp_path / "whole").write_bytes(b"".join((tmp_path / name).read_bytes() for name in names))
    with tarfile.open(tmp_path / "whole") as tar:
        assert tar.extractfile("run/weights").read() == content


def test_tests_are_counted_by_how_they_ended():
    log = """== python -m pytest of before
tests/old.py::test_a FAILED [100%]
== python -m pytest -v tests/device
tests/device/test_device.py::test_a[with a blank] PASSED [ 10%]
tests/device/test_device.py::test_b FAILED               [ 20%]
tests/device/test_device.py::test_c SKIPPED (no card) [ 30%]
tests/device/test_device.py::test_d
"""
    assert counts(log) == {
        "passed": 1, "failed": 1, "skipped": 1, "not passed": ["tests/device/test_device.py::test_b"],
    }  # fmt: skip


def test_the_table_shows_what_there_is():
    assert "None" in table({})
    shown = table(
        {
            "machine": {"device": "A card", "jax": "1", "python": "3"},
            "benchmark": {"mnist": {"step_ms": 1.23456, "note": "fast"}, "ended": {"code": 0}},
            "mnist": {"curve": [{"step": 5}], "ended": {"code": 75}},
        }
    )
    assert "step_ms 1.235  note fast" in shown
    assert "not finished; last on valid: {'step': 5}" in shown
