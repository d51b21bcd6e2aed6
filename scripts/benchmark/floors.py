"""The floor under a compiled function: its own matrix products, and nothing around them."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from bihm.kernels.compiled import fast_jit

FLOAT32 = jax.lax.Precision.HIGHEST  # on cards, too, whatever the program itself asks for
# The shapes of both operands, dimension numbers, times.
Product = tuple[tuple[int, ...], tuple[int, ...], Any, int]


def products(jaxpr: Any, times: int = 1) -> Iterator[Product]:
    """The matrix products of a program, those inside a loop with the number of its turns.

    Products with a vector count inside loops alone, where a walk over units has no others; elsewhere they
    are sums in disguise.
    """
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            a, b = (tuple(v.aval.shape) for v in equation.invars)
            if times > 1 or min(len(a), len(b)) > 1:
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
                nothing = 0 * acc.ravel()[0]
                a, b = (a + nothing, b) if a.size < b.size else (a, b + nothing)
                return jax.lax.dot_general(a, b, numbers, precision=FLOAT32)

            first = jax.lax.dot_general(a, b, numbers, precision=FLOAT32)
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


def repeat(call: Callable[[], Any], times: int) -> Callable[[], None]:
    """A function that calls another so many times, one after the other."""

    def calls() -> None:
        for _ in range(times):
            result = call()
            if jax.default_backend() == "cpu":  # a card works off what it is given, without a pause
                jax.block_until_ready(result)
        jax.block_until_ready(result)

    return calls
