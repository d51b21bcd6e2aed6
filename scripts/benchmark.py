"""How fast a training step and an evaluation are, against the matrix products that they cannot do without.

    python scripts/benchmark.py [--json] [--torch] [KEY=VALUE ...]  # bihm-train's keys, e.g. model=rws K=50

The floor is the configuration's own matrix products, read off the differentiated rule, with the same shapes
and nothing around them. Floor and step are timed in the same process, alternately, so that a noisy
machine slows both: believe the ratio of the medians. With --torch (the extra `bench`) an eager PyTorch step
of the same model takes turns with them, after its gradient has been found the same.
"""

import argparse
import json
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hydra import compose, initialize_config_dir

from bihm import config as schema
from bihm import paths
from bihm.build import LONGEST_CHUNK, make_keys, make_parts, objective_of
from bihm.cli import sweep
from bihm.compiled import fast_jit
from bihm.evaluation import TILE, block_size
from bihm.learner import ChunkPlan, Rates, init_state, make_chunk
from bihm.likelihood import estimate_tile, log_weights
from bihm.model import bind, parameter_names
from bihm.numerics import uniforms
from bihm.taper import layer_sizes

Product = tuple[
    tuple[int, ...], tuple[int, ...], Any, int
]  # operand shapes, dimension numbers, times


def read_config(overrides: list[str]) -> schema.Config:
    """Compose a configuration as `bihm-train` does."""
    schema.register()
    sweep.register()
    with initialize_config_dir(str(paths.configs()), version_base="1.3"):
        config = schema.parse(compose("train", overrides=overrides))
    if config.layers is None:
        config.layers = layer_sizes(config.depth, config.dataset.n_features)
    return config


def products(jaxpr: Any, times: int = 1) -> Iterator[Product]:
    """The matrix products of a program, those inside a loop with the number of its turns."""
    for equation in jaxpr.eqns:
        shapes = [tuple(v.aval.shape) for v in equation.invars]
        if (
            equation.primitive.name == "dot_general" and min(map(len, shapes)) > 1
        ):  # not with a vector
            a, b = shapes
            yield a, b, equation.params["dimension_numbers"], times
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for name, value in equation.params.items():
            if name == "branches":
                value = value[-1:]  # one is taken: where it matters, they cost the same
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from products(inner, times * turns)


def flops(product: Product) -> int:
    """Two for each multiply-add."""
    a, b, ((contracted, _), (batched, _)), times = product
    depth = math.prod(a[i] for i in contracted)
    shared = math.prod(a[i] for i in batched)
    return 2 * times * depth * (math.prod(a) // depth) * (math.prod(b) // depth // shared)


def floor_of(program: Callable[..., Any], *arguments: Any) -> tuple[Callable[[], Any], float]:
    """A compiled function that does a program's products and nothing else, and their GFLOP."""
    found = list(products(jax.make_jaxpr(program)(*arguments).jaxpr))
    operands = [
        tuple(jax.random.normal(jax.random.key(i), s, jnp.float32) for s in product[:2])
        for i, product in enumerate(found)
    ]

    @fast_jit
    def multiply(operands: Any) -> list[jax.Array]:
        results = []
        for (a, b), (*_, numbers, times) in zip(operands, found, strict=True):

            def once(_: Any, acc: jax.Array, a=a, b=b, numbers=numbers) -> jax.Array:
                # Depend on the turn before, or the compiler would do the product once.
                return jax.lax.dot_general(a + 0 * acc.ravel()[0], b, numbers)

            first = jax.lax.dot_general(a, b, numbers)
            results.append(jax.lax.fori_loop(1, times, once, first) if times > 1 else first)
        return results

    return (lambda: multiply(operands)), sum(map(flops, found)) / 1e9


def alternate(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, all of them once in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def torch_step(
    config: schema.Config, params: Any, gradient: Callable[..., Any], rows: Any
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


def time_step(
    config: schema.Config, rounds: int, steps: int, with_torch: bool = False
) -> dict[str, float]:
    """Milliseconds of a training step and of its floor, their ratio, and the time to compile."""
    structure, params, optimizer = make_parts(config)
    objective, keys = objective_of(config, config.K), make_keys(config.seed)
    visible, batch = config.dataset.n_features, config.batch_size
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.integers(0, 2, (max(batch, 10_000), visible)), jnp.uint8)
    chunk = make_chunk(
        structure, objective, optimizer, ChunkPlan(1, steps),
        batch_size=batch, grey=False, precision=config.precision,
    )  # fmt: skip
    state = init_state(params, optimizer)
    rates = Rates.of(1e-4, 1e-4, 0, 1)
    started = time.perf_counter()
    compiled = chunk.jitted().lower(state, keys.train, rows, rates).compile()
    compile_seconds = time.perf_counter() - started

    def gradient(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda w: objective(keys.train, bind(structure, w), x)[0])(params)

    floor, gflop = floor_of(gradient, params, rows[:batch].astype(jnp.float32))

    others = {"torch": torch_step(config, params, gradient, rows)} if with_torch else {}

    def some_steps() -> Any:
        nonlocal state
        state, info = compiled(state, keys.train, rows, rates)
        return info

    jax.block_until_ready((some_steps(), floor()))
    calls = {"step": some_steps} | {f"floor{i}": floor for i in range(3)} | others
    seconds = alternate(calls, rounds)
    step = seconds["step"] / steps
    floor_seconds = min(seconds[f"floor{i}"] for i in range(3))
    eager = (
        {"torch_ms": 1e3 * seconds["torch"], "torch_ratio": seconds["torch"] / step}
        if with_torch
        else {}
    )
    return eager | {
        "gflop": gflop, "step_ms": 1e3 * step, "floor_ms": 1e3 * floor_seconds,
        "ratio": step / floor_seconds, "steps_per_second": 1 / step, "compile_s": compile_seconds,
    }  # fmt: skip


def time_evaluation(config: schema.Config, K: int, rounds: int) -> dict[str, float]:
    """Rows per second of an estimate with K samples, and its ratio to its floor."""
    structure, params, _ = make_parts(config)
    key, block = jax.random.key(1), block_size(config.eval.K)
    x = jnp.zeros((max(1, TILE // block), config.dataset.n_features), jnp.float32)
    floor, _ = floor_of(lambda w: log_weights(key, bind(structure, w), x, block), params)
    blocks = -(-K // block)

    def estimate() -> Any:
        return estimate_tile(key, structure, params, x, jnp.asarray(K, jnp.int32), block=block)

    jax.block_until_ready((estimate(), floor()))
    seconds = alternate({"eval": estimate} | {f"floor{i}": floor for i in range(3)}, rounds)
    floor_seconds = blocks * min(seconds[f"floor{i}"] for i in range(3))
    return {
        "K": K, "rows_per_second": len(x) / seconds["eval"], "ratio": seconds["eval"] / floor_seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--torch", action="store_true", help="an eager PyTorch step beside ours")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=10, help="training steps in one timed call")
    parser.add_argument("--eval-K", type=int, default=1000)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = arguments.overrides or ["dataset=binarized_mnist"]
    config = read_config(overrides)
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        result: dict[str, Any] = {"overrides": overrides, "device": jax.devices()[0].device_kind}
        steps = min(arguments.steps, LONGEST_CHUNK)
        result["step"] = time_step(config, arguments.rounds, steps, arguments.torch)
        result["evaluation"] = time_evaluation(
            config, arguments.eval_K, max(3, arguments.rounds // 3)
        )
        jax.clear_caches()
        result["step"]["compile_cached_s"] = time_step(config, 1, arguments.steps)["compile_s"]
    if arguments.json:
        json.dump(result, sys.stdout, indent=1)
        return
    for name in ("step", "evaluation"):
        print(f"{name:11s} " + "  ".join(f"{k} {v:,.2f}" for k, v in result[name].items()))


if __name__ == "__main__":
    main()
