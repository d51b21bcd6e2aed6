"""How fast it is: part `benchmark` of `scripts/accelerator/run`.

    python scripts/accelerator/measure.py --out FOLDER [--seconds N] [--small]

Steps, estimates, compilation and memory by the functions of `scripts/benchmark/benchmark.py`, what matters
most first; each number is written when it is there, and what the time does not reach is left out.
"""

import itertools
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from machines import BENCHMARK, MACHINES, Deadline, words_of_a_part
from record import Record

sys.path.append(BENCHMARK)
from benchmark import compile_cached, read_config, time_evaluation, time_step

CARD = ["experiment=bihm_binarized_mnist_card"]
GRID = {"K": (10, 100, 1000), "batch_size": (25, 100, 1000), "precision": ("f32", "tf32", "bf16")}
ROWS_IN_A_CALL = 200_000  # rows times samples of all steps in one timed call, at least one step
MOST_STEPS = 100
Task = tuple[
    str, list[str], int | None
]  # a name, words for bihm-train, K of an estimate or None: a step


def tasks(small: bool) -> Iterator[Task]:
    """What to measure, the most important first."""
    if small:
        yield "small", MACHINES["small"], None
        yield "small precision=bf16", [*MACHINES["small"], "precision=bf16"], None
        yield "small estimate K=20", MACHINES["small"], 20
        return
    mnist, mushrooms = MACHINES["mnist"], MACHINES["mushrooms"]
    yield "mnist", mnist, None
    yield "mnist estimate K=1000", mnist, 1000
    yield "mushrooms", mushrooms, None
    yield "mnist precision=tf32", [*mnist, "precision=tf32"], None
    yield "mnist precision=bf16", [*mnist, "precision=bf16"], None
    yield "the recipe for cards", CARD, None
    for words in (["K=100"], ["batch_size=1000"], ["K=100", "batch_size=1000"]):
        yield " ".join(["mnist", *words]), [*mnist, *words], None
    yield "mnist estimate K=100000", mnist, 100_000
    yield "mushrooms batch_size=1000", [*mushrooms, "batch_size=1000"], None
    yield "mushrooms K=100", [*mushrooms, "K=100"], None
    for precision in reversed(GRID["precision"]):
        words = ["K=100", "batch_size=1000", f"precision={precision}"]
        yield " ".join(["mnist", *words]), [*mnist, *words], None
    for values in itertools.product(*GRID.values()):
        words = [f"{key}={value}" for key, value in zip(GRID, values, strict=True)]
        yield " ".join(["mnist", *words]), [*mnist, *words], None


def measure(task: Task, small: bool) -> dict[str, Any]:
    """The numbers of one task; bytes are of the device, and its peak is that of the process so far."""
    _, words, K = task
    config = read_config(words)
    if K is not None:
        numbers: dict[str, Any] = dict(time_evaluation(config, K, 1 if small else 3))
    else:
        steps = max(1, min(MOST_STEPS, ROWS_IN_A_CALL // (config.K * config.batch_size)))
        numbers = dict(time_step(config, 1 if small else 5, 5 if small else steps))
        numbers["samples_per_second"] = config.K * config.batch_size * numbers["steps_per_second"]
    memory = jax.devices()[0].memory_stats()
    if memory:
        numbers["peak_mib_so_far"] = memory["peak_bytes_in_use"] / 2**20
    return {name: float(f"{value:.4g}") for name, value in numbers.items()}


def main() -> None:
    """Write one block for each task."""
    arguments = words_of_a_part(__doc__).parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    record, deadline = Record(arguments.out, "benchmark"), Deadline(arguments.seconds)
    steps_done: list[Any] = []  # configurations
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        for task in tasks(arguments.small):
            name, words, K = task
            config = read_config(words)
            if K is None and config in steps_done:
                continue
            if not deadline.allows_another():
                print(f"no time left for {name} and what follows", flush=True)
                return
            with deadline.measuring():
                numbers = attempt(task, arguments.small)
                if not steps_done and "error" not in numbers:
                    numbers["compile_cached_s"] = compile_cached(
                        config, 1 if arguments.small else 100
                    )
            steps_done += [config] if K is None else []
            record.set(name, numbers)
            print(f"{name}: {numbers}", flush=True)


def attempt(task: Task, small: bool) -> dict[str, Any]:
    """The numbers, or what went wrong: the next task may fit where this one did not."""
    try:
        return measure(task, small)
    except Exception as error:
        jax.clear_caches()
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


if __name__ == "__main__":
    main()
