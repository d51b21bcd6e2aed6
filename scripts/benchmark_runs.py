"""What whole runs spend before their first step and between their chunks, for `benchmark.py`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from bihm import config as schema
from bihm import experiment, training

# A run that says when its first chunk has been compiled and begun, and goes no further.
CHILD = """
import os, time
from bihm import training
from bihm.cli import train
make = training.make_chunk
def make_and_tell(*arguments, **keywords):
    chunk = make(*arguments, **keywords)
    def call(*arguments):
        chunk(*arguments)
        print("begun", time.time(), flush=True)
        os._exit(0)
    return call
training.make_chunk = make_and_tell
train.main()
"""


def time_start(overrides: list[str], folder: Path) -> dict[str, float]:
    """Seconds from the start of Python to the first step, with an empty cache and with a full one."""

    def start(name: str) -> float:
        words = [sys.executable, "-c", CHILD, *overrides, f"hydra.run.dir={folder / name}"]
        env = dict(os.environ, BIHM_CACHE=str(folder / "cache"))
        started = time.time()
        done = subprocess.run(words, env=env, check=False, capture_output=True, text=True)
        if "begun" not in done.stdout:
            sys.exit(done.stderr)
        return float(done.stdout.split("begun")[1]) - started

    return {"cold_s": start("cold"), "cached_s": start("cached")}


def share_of_training(config: schema.Config, seconds: int, directory: Path) -> dict[str, float]:
    """Percent of a run's time, from its second estimate on, in which the device does not train.

    What comes before is compiled then, and paid for once a run.
    """
    spent: list[tuple[str, float, float]] = []  # what, when it ended, how long it took
    config.max_seconds, config.eval.final_K, config.eval.final_z_outer = float(seconds), 1, 100
    for name in ("_evaluate", "save", "_show_pictures"):
        setattr(training.Training, name, timed(getattr(training.Training, name), spent))
    experiment.train(config, directory)
    ends = [end for name, end, _ in spent if name == "_evaluate"]
    if len(ends) < 3:
        sys.exit(f"--seconds {seconds} has {len(ends)} estimates; three are needed")
    first, last = ends[0], ends[-2]  # the last one is the run's end
    shares = {
        name.strip("_"): 100 * sum(t for n, end, t in spent if n == name and first < end <= last)
        for name in ("_evaluate", "save", "_show_pictures")
    }
    shares = {name: total / (last - first) for name, total in shares.items()}
    return shares | {"together": sum(shares.values()), "seconds": last - first}


def timed(method: Callable[..., Any], spent: list[tuple[str, float, float]]) -> Callable[..., Any]:
    """A method of `Training` that notes how long it took once the chunk before it was done."""

    def call(self: training.Training, *arguments: Any) -> Any:
        jax.block_until_ready(self.state)  # the device is training until then
        started = time.perf_counter()
        try:
            return method(self, *arguments)
        finally:
            ended = time.perf_counter()
            spent.append((method.__name__, ended, ended - started))

    return call
