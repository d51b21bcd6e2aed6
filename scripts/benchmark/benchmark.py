"""How fast a training step and an evaluation are, against the matrix products that they cannot do without.

    python scripts/benchmark/benchmark.py [--parts step,evaluation,...] [--json] [--torch] [KEY=VALUE ...]

The keys are bihm-train's, e.g. model=rws K=50. The floor is the configuration's own matrix products, read
off the differentiated rule, with the same shapes and nothing around them, in float32. Floor and step are
timed in the same process, alternately, so that a noisy machine slows both: believe the ratio of the
medians. Parts:

step        a training step; the time to compile it, cold and cached. With --torch (the extra `bench`)
            an eager PyTorch step of the same model takes turns, after its gradient has been found the same
evaluation  an estimate with --eval-K samples
growth      a step at other K, batches, depths and widths
start       seconds from the command to the first step, twice: with an empty cache and again
memory      the most memory that an estimate's process ever held, with 1,000 and with 100,000 samples
share       which part of a run of --seconds is not training: estimates, checkpoints, pictures
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from floors import alternate, floor_of, repeat

from bihm.cli.compose import compose_words
from bihm.config import Config
from bihm.kernels.noise import uniforms
from bihm.machine.layer_sizes import layer_sizes
from bihm.machine.likelihood import log_weights
from bihm.machine.machine import bind, merge, parameter_names
from bihm.machine.minibatches import ChunkPlan
from bihm.machine.optimizer import Rates
from bihm.machine.training_step import init_state, make_chunk
from bihm.run.build import make_keys, make_parts
from bihm.run.estimates.splits import TILE, block_size, estimate_split
from bihm.run.families.choice import family_of

Numbers = dict[str, float]
GROWTH = {
    "K": ["K=5", "K=10", "K=20", "K=50"],
    "batch": ["batch_size=25", "batch_size=50", "batch_size=200"],
    "depth": ["depth=1", "depth=2", "depth=4", "depth=8"],
    "width": ["layers=[100,100]", "layers=[200,200]", "layers=[400,400]", "layers=[800,800]"],
}


def read_config(overrides: list[str]) -> Config:
    """Compose a configuration as `bihm-train` does."""
    config, _ = compose_words(overrides)
    if config.layers is None:
        config.layers = layer_sizes(config.depth, config.dataset.n_features)
    return config


def torch_step(
    config: Config, params: Any, gradient: Callable[..., Any], rows: Any
) -> Callable[[], None]:
    """An eager PyTorch step of the same machine, once its gradient agrees with ours."""
    import torch
    from eager_torch import EagerMachine

    names, leaves = parameter_names(params), map(np.asarray, jax.tree.leaves(params))
    visible, batch = config.dataset.n_features, config.batch_size
    eager = EagerMachine(dict(zip(names, leaves, strict=True)), visible, config.layers)
    rule, x = config.model.name, rows[:batch].astype(jnp.float32)
    key = make_keys(config.seed).train
    if rule == "bihm":
        draws = [(key, (config.K, batch), config.layers)]
    else:
        wake, sleep = jax.random.split(key)
        draws = [
            (wake, (config.K, batch), config.layers),
            (sleep, (batch,), [*reversed(config.layers), visible]),
        ]
    noise = [jnp.concatenate(uniforms(*draw), axis=-1) for draw in draws]
    arguments = [torch.tensor(np.asarray(a)) for a in (x, *noise)]
    theirs = eager.gradients(rule, *arguments, *[None] * (3 - len(arguments)))
    ours = jax.tree.leaves(jax.jit(gradient)(params, x))
    for name, g in zip(names, ours, strict=True):
        error = np.linalg.norm(theirs[name] - g) / np.linalg.norm(g)
        if not error < 1e-3:
            sys.exit(f"the eager gradient of {name} differs by {error:.1e} of its norm")
    return eager.trainer(rule, np.asarray(rows), batch, config.K, batch)


class Step(NamedTuple):
    """A chunk of training steps before it is compiled, what it is called with, and its gradient alone."""

    chunk: Any
    arguments: tuple[Any, ...]  # state, key, rows, rates
    gradient: Callable[[Any, jax.Array], Any]  # of parameters and a batch
    batch: jax.Array


def step_of(config: Config, steps: int) -> Step:
    """The training step of a configuration, on random rows."""
    structure, params, optimizer = make_parts(config)
    rule, keys = family_of(config).rule(config.K, 1), make_keys(config.seed)
    rng = np.random.default_rng(0)
    shape = max(config.batch_size, 10_000), config.dataset.n_features
    rows = jnp.asarray(rng.integers(0, 2, shape, np.uint8))
    chunk = make_chunk(
        structure, rule, optimizer, ChunkPlan(1, steps),
        batch_size=config.batch_size, grey=False, precision=config.precision,
    )  # fmt: skip

    def gradient(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda w: rule(keys.train, merge(structure, w), x)[0])(params)

    arguments = init_state(params, optimizer), keys.train, rows, Rates.of(1e-4, 1e-4, 0, 1)
    return Step(chunk, arguments, gradient, rows[: config.batch_size].astype(jnp.float32))


def time_step(config: Config, rounds: int, steps: int, with_torch: bool = False) -> Numbers:
    """Milliseconds of a training step and of its floor, their ratio, and the time to compile."""
    chunk, (state, *others), gradient, x = step_of(config, steps)
    started = time.perf_counter()
    compiled = chunk.jitted().lower(state, *others).compile()
    compile_seconds = time.perf_counter() - started
    params = jax.tree.map(jnp.copy, state.params)  # a chunk takes its state away
    floor, gflop = floor_of(gradient, params, x)

    def some_steps() -> Any:
        nonlocal state
        state, info = compiled(state, *others)
        return info

    calls = {"step": some_steps, "floor": repeat(floor, steps)}
    if with_torch:
        eager = torch_step(config, params, gradient, others[1])
        calls["torch"] = repeat(eager, steps)
    seconds = {name: t / steps for name, t in alternate(calls, rounds).items()}
    result = {
        "gflop": gflop, "step_ms": 1e3 * seconds["step"], "floor_ms": 1e3 * seconds["floor"],
        "ratio": seconds["step"] / seconds["floor"], "steps_per_second": 1 / seconds["step"],
        "compile_s": compile_seconds,
    }  # fmt: skip
    if with_torch:
        result["torch_ms"] = 1e3 * seconds["torch"]
        result["torch_ratio"] = seconds["torch"] / seconds["step"]
    return result


def time_evaluation(config: Config, K: int, rounds: int) -> Numbers:
    """Rows per second of an estimate with K samples, and its ratio to its floor."""
    structure, params, _ = make_parts(config)
    key, block = jax.random.key(1), block_size(K)
    height, tiles = max(1, TILE // block), 9 if K <= 10_000 else 3  # the first tile runs alone
    rows = np.zeros((height * tiles, config.dataset.n_features), np.uint8)
    tile = jnp.asarray(rows[:height], jnp.float32)
    floor, _ = floor_of(lambda w: log_weights(key, bind(structure, w), tile, block), params)
    calls = {
        "eval": lambda: estimate_split(key, structure, params, rows, K),
        "floor": repeat(floor, tiles * -(-K // block)),
    }
    seconds = alternate(calls, rounds)
    return {
        "K": K, "rows_per_second": len(rows) / seconds["eval"],
        "ratio": seconds["eval"] / seconds["floor"],
    }  # fmt: skip


def time_growth(overrides: list[str], rounds: int, steps: int) -> dict[str, Numbers]:
    """`time_step` for other K, batches, depths and widths, one changed at a time."""
    return {
        change: time_step(read_config([*overrides, change]), rounds, steps)
        for changes in GROWTH.values()
        for change in changes
    }


def compile_cached(config: Config, steps: int) -> float:
    """Seconds to compile the step once more, from the persistent cache."""
    jax.clear_caches()
    return time_step(config, 1, steps)["compile_s"]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="step,evaluation")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--torch", action="store_true", help="an eager PyTorch step beside ours")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="training steps in one timed call")
    parser.add_argument("--eval-K", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=100)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = arguments.overrides or ["dataset=binarized_mnist"]
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        result = measure(arguments, overrides, Path(cache))
    if arguments.json:
        json.dump(result, sys.stdout, indent=1)
        return
    for part, numbers in result.items():
        print(f"{part:20s} " + "  ".join(f"{k} {v:,.2f}" for k, v in numbers.items()))


def measure(arguments: argparse.Namespace, overrides: list[str], cache: Path) -> dict[str, Numbers]:
    """The parts that were asked for, each a row of numbers."""
    from runs import peak_memory, share_of_training, time_start

    config, rounds, steps = read_config(overrides), arguments.rounds, arguments.steps
    result = {}
    for part in arguments.parts.split(","):
        if part == "step":
            result[part] = time_step(config, rounds, steps, arguments.torch)
            result[part]["compile_cached_s"] = compile_cached(config, steps)
        elif part == "evaluation":
            result[part] = time_evaluation(config, arguments.eval_K, max(3, rounds // 3))
        elif part == "growth":
            result |= time_growth(overrides, rounds, steps)
        elif part == "start":
            result[part] = time_start(overrides, cache / "start")
        elif part == "memory":
            result[part] = peak_memory(overrides)
        elif part == "share":
            result[part] = share_of_training(config, arguments.seconds, cache / "run")
        else:
            sys.exit(f"--parts: {part!r} is none of step, evaluation, growth, start, memory, share")
    return result


if __name__ == "__main__":
    main()
