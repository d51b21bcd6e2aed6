"""What the benchmark measures against: the products of a program, all of them and nothing else."""

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihm.machine.layer_sizes import PAPER_SIZES, PAPER_VISIBLE
from bihm.machine.layers import Init
from bihm.machine.machine import bind, make_machine, split
from bihm.machine.rules import make_rule

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "benchmark"))
from floors import alternate, floor_of, flops, products

A, B, V = jnp.zeros((3, 4)), jnp.zeros((4, 5)), jnp.zeros(4)


def flops_of(program, *arguments):
    return [flops(found) for found in products(jax.make_jaxpr(program)(*arguments).jaxpr)]


def test_two_operations_for_each_multiply_add():
    assert flops_of(lambda a, b: jnp.sin(a @ b), A, B) == [2 * 3 * 4 * 5]
    pairs = jnp.stack([A] * 6), jnp.stack([B] * 6)
    assert flops_of(jnp.matmul, *pairs) == [6 * 2 * 3 * 4 * 5]


def test_products_within_a_loop_count_once_a_turn_and_with_vectors_too():
    def walk(a, v):
        return jax.lax.scan(lambda carry, _: (carry + a @ v, None), jnp.zeros(3), length=7)[0]

    assert flops_of(walk, A, V) == [7 * 2 * 3 * 4]
    assert flops_of(lambda v: v @ v, V) == []  # elsewhere a sum in disguise


def test_one_branch_of_two_is_taken():
    def either(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: 2 * a @ b)

    assert flops_of(either, A, B) == [2 * 3 * 4 * 5]


def test_a_step_of_the_papers_machine_needs_1_8_gflop():
    """Forward and weight gradient of p and q, the first layer of q once for each of 100 rows."""
    K, batch, depth = 10, 100, len(PAPER_SIZES)
    rng = np.random.default_rng(0)
    machine = make_machine(
        rng, PAPER_VISIBLE, PAPER_SIZES, ["sbn"] * (depth + 1), ["sbn"] * depth, Init()
    )
    structure, params = split(machine)
    rule = make_rule("bihm", K=K)

    def gradient(params, x):
        return jax.grad(lambda w: rule(jax.random.key(0), bind(structure, w), x)[0])(params)

    weights = [a * b for a, b in itertools.pairwise((PAPER_VISIBLE, *PAPER_SIZES))]
    rows = K * batch
    expected = 2 * 2 * (2 * rows * sum(weights) - (rows - batch) * weights[0])
    total = sum(flops_of(gradient, params, jnp.zeros((batch, PAPER_VISIBLE))))
    assert total == expected
    assert total / 1e9 == pytest.approx(1.80, abs=0.005)


def test_a_floor_does_its_products_and_calls_take_turns():
    floor, gflop = floor_of(lambda a, b: jnp.sin(a @ b), A, B)
    (result,) = floor()
    assert result.shape == (3, 5)
    assert gflop == pytest.approx(120e-9)
    order = []
    seconds = alternate({name: lambda n=name: order.append(n) for name in "ab"}, rounds=3)
    assert order == list("ababab")
    assert set(seconds) == {"a", "b"}
