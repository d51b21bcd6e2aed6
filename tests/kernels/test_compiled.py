"""What compiled programs owe to `fast_jit`: sums that are right in every version of the compiler."""

import ast
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import bihm.kernels.compiled
from bihm.kernels.bernoulli import bernoulli_log_prob
from bihm.kernels.compiled import fast_jit

PACKAGE = Path(bihm.kernels.compiled.__file__).parents[1]
# `fast_jit` of several runs; copies, a split of the seed, an element-wise function, an optimiser's zeros,
# a maximum over processes.
PLAIN = {
    "compiled.py": 2,
    "together.py": 1,
    "training_step.py": 1,
    "machine.py": 1,
    "loop.py": 1,
    "build.py": 1,
    "processes.py": 1,
}


@pytest.mark.parametrize(
    ("h_shape", "a_shape"),
    [
        ((2, 1, 30_000, 3), (1, 4, 30_000, 3)),  # jax 0.10.2 by itself is wrong by 10 nats here
        ((7, 1, 20_000, 3), (1, 4, 20_000, 3)),
        ((2, 1, 1000, 16), (1, 4, 1000, 16)),
        ((2, 30_000, 3), (1, 30_000, 3)),
    ],
)
def test_a_log_probability_is_right_however_its_arguments_broadcast(h_shape, a_shape):
    rng = np.random.default_rng(0)
    h = rng.integers(0, 2, h_shape).astype(np.float32)
    a = rng.normal(size=a_shape).astype(np.float32)
    exact = (h * a.astype(np.float64) - np.logaddexp(0, a.astype(np.float64))).sum(axis=-1)
    got = fast_jit(bernoulli_log_prob)(jnp.asarray(h), jnp.asarray(a))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-4)


def test_no_other_file_compiles_mathematics():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        uses = [n for n in nodes if isinstance(n, ast.Attribute) and n.attr in ("jit", "pmap")]
        if uses:
            found[path.name] = len(uses)
    assert found == PLAIN
