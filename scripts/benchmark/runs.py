"""What whole runs spend before their first step and between their chunks, for `benchmark.py`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from bihm.config import Config
from bihm.run import train
from bihm.run.training import loop

# A run that says when its first chunk has been compiled and begun, and goes no further.
CHILD = """
import os, time
from bihm.run.training import loop
from bihm.cli import train
make = loop._kept_chunk
def make_and_tell(*arguments, **keywords):
    chunk = make(*arguments, **keywords)
    def call(*arguments):
        chunk(*arguments)
        print("begun", time.time(), flush=True)
        os._exit(0)
    return call
loop._kept_chunk = make_and_tell
train.main()
"""

# An estimate of so many rows with K samples each, and the most memory that its process ever held.
ESTIMATE = """
import resource, sys
import jax, numpy as np
from benchmark import read_config
from bihm.run.build import make_parts
from bihm.run.estimates.splits import estimate_split
K, rows, *overrides = sys.argv[1:]
config = read_config(overrides)
structure, params, _ = make_parts(config)
x = np.zeros((int(rows), config.dataset.n_features), np.uint8)
estimate_split(jax.random.key(1), structure, params, x, int(K))
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_memory(overrides: list[str]) -> dict[str, float]:
    """MiB of a process that only estimates: four million samples with few and with many for each row.

    As many samples in both, since a process's memory grows a little with its time, whatever it does.
    """

    def peak(K: int) -> float:
        words = [sys.executable, "-c", ESTIMATE, str(K), str(4_000_000 // K), *overrides]
        folder = str(Path(__file__).parent)
        done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return float(done.stdout.split("peak")[1])

    return {"mib_at_K_1000": peak(1000), "mib_at_K_100000": peak(100_000)}


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


def share_of_training(config: Config, seconds: int, directory: Path) -> dict[str, float]:
    """Percent of a run's time, from its second estimate on, in which the device does not train.

    What comes before is compiled then, and paid for once a run. So is the program that draws the pictures,
    later: it is counted, and `pictures_once` is its part.
    """
    spent: list[tuple[str, float, float]] = []  # what, when it ended, how long it took
    config.max_seconds, config.eval.final_K, config.eval.final_z_outer = float(seconds), 1, 100
    for name in ("_evaluate", "save", "_show_pictures"):
        setattr(loop.TrainingLoop, name, timed(getattr(loop.TrainingLoop, name), spent))
    train.train(config, directory)
    ends = [end for name, end, _ in spent if name == "_evaluate"]
    if len(ends) < 3:
        sys.exit(f"--seconds {seconds} has {len(ends)} estimates; three are needed")
    first, last = ends[0], ends[-2]  # the last one is the run's end
    shares = {
        name.strip("_"): 100 * sum(t for n, end, t in spent if n == name and first < end <= last)
        for name in ("_evaluate", "save", "_show_pictures")
    }
    shares = {name: total / (last - first) for name, total in shares.items()}
    drawn = [t for n, end, t in spent if n == "_show_pictures" and first < end <= last]
    once = 100 * (drawn[0] - min(drawn)) / (last - first) if drawn else 0.0
    together = {"together": sum(shares.values()), "pictures_once": once}
    return shares | together | {"seconds": last - first}


def timed(method: Callable[..., Any], spent: list[tuple[str, float, float]]) -> Callable[..., Any]:
    """A method of `TrainingLoop` that notes how long it took once the chunk before it was done."""

    def call(self: loop.TrainingLoop, *arguments: Any) -> Any:
        jax.block_until_ready(self.state)  # the device is training until then
        started = time.perf_counter()
        try:
            return method(self, *arguments)
        finally:
            ended = time.perf_counter()
            spent.append((method.__name__, ended, ended - started))

    return call
