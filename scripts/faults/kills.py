"""Interrupt small runs at random moments, run them to their ends, and compare them with one left in peace.

    python scripts/faults/kills.py [--kills 100] [--signals KILL,TERM,HUP,USR1,USR2,INT+INT]

Each run gets one to five signals, after any fraction of the time that a whole run takes, half of them
aimed at a save. Then the same command runs to its end: parameters, optimiser state, the average, the loop's
memory, metrics.jsonl and results.json must be those of the undisturbed run, bit for bit, clocks aside.
Exit code 1 if one is not.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any

RUN = [
    *("dataset=bars", "layers=[6,4]", "batch_size=50", "K=4", "epochs=20", "stop.patience=6"),
    *("optim.lr=1e-2", "optim.average=0.99", "optim.schedule=cosine", "eval.every=2"),
    *("optim.phases=[{epochs:8},{K:6,epochs:12}]", "checkpoint.every_seconds=0"),
    *("eval.final_K=50", "eval.final_z_outer=20000"),
]
CLEAN_STOP = 75
SAVING = "checkpoints/*orbax-checkpoint-tmp*"


def start(directory: Path) -> "subprocess.Popen[bytes]":
    """The command in a process of its own."""
    with (directory.parent / f"{directory.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "bihm.cli.train", *RUN, f"hydra.run.dir={directory}"],
            stdout=log, stderr=log, cwd=directory.parent,
        )  # fmt: skip


def finish(directory: Path) -> float:
    """Run to the end; return the seconds it took."""
    started = time.monotonic()
    code = start(directory).wait()
    if code != 0:
        sys.exit(f"{directory}: exit code {code}; see {directory}.log")
    return time.monotonic() - started


def disturb(directory: Path, whole: float, name: str, rng: random.Random) -> tuple[str, float]:
    """Start, wait, send a signal; return what became of the process and how long it took to stop."""
    process = start(directory)
    deadline = time.monotonic() + whole * rng.random()
    aimed = rng.random() < 0.5
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    while aimed and process.poll() is None and not list(directory.glob(SAVING)):
        time.sleep(0.0005)
    if aimed:
        time.sleep(0.03 * rng.random())
    saving = process.poll() is None and bool(list(directory.glob(SAVING)))
    sent = time.monotonic()
    for part in name.split("+"):
        if process.poll() is None:
            process.send_signal(getattr(signal, f"SIG{part}"))
            time.sleep(0.2 * rng.random() if "+" in name else 0)
    code = process.wait()
    if saving and code == -signal.SIGKILL:
        return "inside a save", time.monotonic() - sent
    return {0: "too late", CLEAN_STOP: "clean stop"}.get(code, "at once"), time.monotonic() - sent


def content(directory: Path) -> dict[str, Any]:
    """All of a run that must not depend on what happened on the way, clocks left out."""
    import jax

    from bihm.config import load
    from bihm.records.checkpoint import read_checkpoint
    from bihm.run.build import saved_like

    config = load(directory / "config.yaml")
    saved = read_checkpoint(directory, config, saved_like(config)[1])
    states = [leaf.tobytes() for leaf in map(jax.numpy.asarray, jax.tree.leaves(saved[:2]))]
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    results = json.loads((directory / "results.json").read_text())
    timeless: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for record in (*timeless, saved.memory, results["train"]):
        del record["seconds"]
    status = json.loads((directory / "status.json").read_text())["status"]
    return {
        "states": states, "memory": saved.memory, "metrics": timeless, "results": results, "status": status,
    }  # fmt: skip


def main() -> None:
    """Print one line a run and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", default="KILL")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, signals = random.Random(arguments.seed), arguments.signals.split(",")
    outcomes: Counter[str] = Counter()
    mismatches, slowest, sent = 0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("BIHM_CACHE", f"{folder}/cache")
        peaceful = Path(folder, "peaceful")
        finish(peaceful)  # also fills the cache of compiled programs
        whole = finish(Path(folder, "timed"))
        expected = content(peaceful)
        run = 0
        while sent < arguments.kills:
            directory = Path(folder, f"run{run}")
            what = []
            for _ in range(min(rng.randint(1, 5), arguments.kills - sent)):
                name = signals[sent % len(signals)]
                outcome, seconds = disturb(directory, whole, name, rng)
                what.append(f"{name} {outcome}")
                outcomes[outcome] += 1
                sent += 1
                if outcome == "too late":
                    break
                slowest = max(slowest, seconds)
            finish(directory)
            got = content(directory)
            different = [key for key in expected if got[key] != expected[key]]
            mismatches += bool(different)
            if "metrics" in different:
                pairs = zip_longest(expected["metrics"], got["metrics"])
                print(*next((a, b) for a, b in pairs if a != b), sep="\n")
            print(f"run {run}: {', '.join(what)}: {different or 'the same'}", flush=True)
            run += 1
    counts = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items()))
    print(
        f"{sent} signals ({counts}) in {run} runs; slowest stop {slowest:.1f} s; {mismatches} mismatches"
    )
    sys.exit(mismatches > 0)


if __name__ == "__main__":
    main()
