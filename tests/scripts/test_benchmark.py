"""The benchmarks run and print their numbers: every part, on a machine as small as they take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "scripts" / "benchmark"
# The run of part `share` ends by its epochs, with four estimates: a slow machine needs no more seconds.
SMALL = ["dataset=bars", "layers=[4,3]", "batch_size=50", "K=3", "eval.every=5", "epochs=20"]
RATIOS = {"step": "ratio", "evaluation": "ratio", "start": "cold_s", "share": "together"}


def run(*words):
    done = subprocess.run(
        [sys.executable, *words], cwd=BENCHMARK, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("part", RATIOS)
def test_a_part_of_the_benchmark_measures_something(part):
    options = ["--rounds", "1", "--steps", "10", "--eval-K", "20", "--seconds", "600", "--json"]
    numbers = json.loads(run("benchmark.py", "--parts", part, *options, *SMALL))[part]
    assert numbers[RATIOS[part]] > 0


@pytest.mark.long
def test_a_step_of_every_family_is_measured():
    options = ["--parts", "step", "--rounds", "1", "--steps", "10", "--json"]
    words = ["model=targetprop", "dataset=bars", "layers=[4,3]", "batch_size=50"]
    assert json.loads(run("benchmark.py", *options, *words))["step"]["gflop"] > 0


@pytest.mark.long
def test_each_type_of_layer_is_timed():
    out = run("layers.py", "--inputs", "4", "--units", "3", "--rows", "5", "--rounds", "1")
    assert all(kind in out for kind in ("sbn", "dsbn", "darn", "nade"))


@pytest.mark.long
def test_a_wrong_part_is_said_in_one_line():
    done = subprocess.run(
        [sys.executable, "benchmark.py", "--parts", "stpe", *SMALL],
        cwd=BENCHMARK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "'stpe' is none of step, evaluation" in done.stderr
