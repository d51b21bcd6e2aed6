"""The published machine of 12 layers on this accelerator: part `mnist` of `scripts/accelerator/run`.

    python scripts/accelerator/mnist.py --out FOLDER [--seconds N] [--small] [--train "WORDS"]

Trains for the time there is and estimates the best state on valid and test. It leaves the numbers, the
weights as safetensors, and the run directory as a tar in pieces that any mail or copy tool takes. By
default the number of epochs is fitted to the time, so that the schedule ends in it. With `--train
"epochs=400"` it is what was said: a run that does not end in the time stops with a checkpoint, and goes on
where it stopped if its directory is put back:  cat FOLDER/mnist-run.tar.* | tar -x -C FOLDER.work
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from machines import BENCHMARK, words_of_a_part
from record import Record

PIECE = 14 * 2**20  # bytes
TRAIN = "from bihm.cli.train import main; main()"
EXPORT = "from bihm.cli.export import main; main()"
FULL = ["experiment=bihm_binarized_mnist_card"]
SMALL = ["dataset=bars", "layers=[4,3]", "K=3", "batch_size=250", "eval.final_K=20",
         "eval.final_z_outer=200"]  # fmt: skip
PACKING = 15.0  # seconds to write a checkpoint when asked to stop, and as many to pack, at most
START = 25.0  # seconds that jax, the data and the first compilation may take
TRAINING = 0.7  # of what is left then; estimates, pictures and a slow first epoch have the rest


def fitted_epochs(out: Path, seconds: float) -> int | None:
    """As many epochs of the recipe as fit, by the speed that part `benchmark` has measured."""
    from bihm.machine.minibatches import plan_epoch
    from bihm.run.build import LONGEST_CHUNK

    sys.path.append(BENCHMARK)
    from benchmark import read_config

    measured = Record(out, "").read().get("benchmark", {}).get("the recipe for cards", {})
    if "steps_per_second" not in measured:
        return None
    config = read_config(FULL)
    steps = plan_epoch(50_000, config.batch_size, LONGEST_CHUNK).steps_per_epoch
    return max(1, int(TRAINING * (seconds - START) * measured["steps_per_second"] / steps))


def train(words: list[str], run: Path, seconds: float, packing: float) -> int:
    """bihm-train's exit code; when the time is up it is asked to stop with a checkpoint."""
    command = [sys.executable, "-c", TRAIN, *words, f"hydra.run.dir={run}"]
    print(shlex.join(command), flush=True)
    process = subprocess.Popen(command, env=dict(os.environ, BIHM_CACHE=str(cache_of(run))))
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(packing)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def cache_of(run: Path) -> Path:
    """Where data are looked for and compiled programs kept: beside the run, not in it."""
    return run.parent / "cache"


def pack(run: Path, out: Path) -> list[str]:
    """The run directory as a tar, cut into pieces; their names."""
    for old in out.glob("mnist-run.tar.*"):
        old.unlink()
    whole = out / "mnist-run.tar"
    with tarfile.open(whole, "w") as tar:
        tar.add(run, arcname=run.name)
    names = []
    with whole.open("rb") as stream:
        while piece := stream.read(PIECE):
            path = out / f"mnist-run.tar.{len(names):02d}"
            path.write_bytes(piece)
            names.append(path.name)
    whole.unlink()
    return names


def results_of(run: Path) -> dict[str, Any]:
    """What the run says of itself: its results if it ended, else its last validation estimate."""
    found: dict[str, Any] = {}
    for name in ("results.json", "status.json"):
        if (run / name).is_file():
            found[name.removesuffix(".json")] = json.loads((run / name).read_text())
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    if lines:
        keep = ("step", "epoch", "seconds", "valid/log_p", "valid/log_p_tilde_star",
                "valid/two_log_z")  # fmt: skip
        found["curve"] = [
            {key: value for key, value in json.loads(line).items() if key in keep}
            for line in lines[:: -(-len(lines) // 40)]
        ]
    return found


def main() -> None:
    """Train, export, pack; the exit code is that of training, where 75 is a run that may go on."""
    parser = words_of_a_part(__doc__)
    parser.add_argument("--train", default="", help="more words for bihm-train")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    out: Path = arguments.out.resolve()
    run = out.with_name(out.name + ".work") / "run"
    run.parent.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    packing = min(PACKING, 0.15 * arguments.seconds)
    record, asked = Record(out, "mnist"), shlex.split(arguments.train)
    words = [*(SMALL if arguments.small else FULL), *asked]
    seconds = arguments.seconds - 2 * packing
    if not any(word.startswith(("epochs=", "optim.phases=")) for word in asked):
        words += bounded(run, out, seconds, arguments.small)
    record.set("words", words)
    code = train(words, run, max(1.0, end - time.monotonic() - 2 * packing), packing)
    record.set("exit_code", code)
    for name, value in results_of(run).items():
        record.set(name, value)
    if (run / "checkpoints").is_dir():
        weights = [f"run={run}", f"out={out / 'mnist.safetensors'}"]
        environment = dict(os.environ, JAX_PLATFORMS="cpu")  # which starts sooner
        done = subprocess.run(
            [sys.executable, "-c", EXPORT, *weights], env=environment, check=False
        )
        record.set("weights", "mnist.safetensors" if done.returncode == 0 else None)
        record.set("pieces", pack(run, out))
    sys.exit(code)


def bounded(run: Path, out: Path, seconds: float, small: bool) -> list[str]:
    """Words that make the run end in the time: a run that goes on keeps the epochs that it began with."""
    training = max(1.0, TRAINING * (seconds - (5.0 if small else START)))
    words = [f"max_seconds={training:.0f}"]
    config = run / "config.yaml"
    if config.is_file():
        lines = config.read_text().splitlines()
        epochs = next(line.split()[1] for line in lines if line.startswith("epochs:"))
        return [*words, f"epochs={epochs}"]
    fitted = 20 if small else fitted_epochs(out, seconds)
    return words if fitted is None else [*words, f"epochs={fitted}"]


if __name__ == "__main__":
    main()
