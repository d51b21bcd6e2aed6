"""What one conditional costs: an evaluation, its gradient and a draw, for each type.

    python scripts/benchmark/layers.py [--inputs 100] [--units 100] [--rows 1000] [--rounds 30]

Times are medians of alternating calls. Beside each stands its ratio to a floor measured in the same rounds:
the program's own matrix products and nothing else, and for nade, whose work is mostly no product, a bare
walk over the units: one multiplication, one division and one product with V for each hidden unit and unit.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from floors import alternate, floor_of

from bihm.kernels.compiled import fast_jit
from bihm.machine.layers import LAYERS, Init, make_layer


def bare_walk(rows: int, units: int, hidden: int, backward: bool):
    """The arithmetic that nade cannot do without, with nothing around it."""
    rng = np.random.default_rng(0)
    e = jnp.asarray(rng.random((rows, hidden)), jnp.float32)
    v, r = (jnp.asarray(0.1 * rng.random((units, hidden)), jnp.float32) for _ in range(2))
    h = jnp.asarray(rng.integers(0, 2, (units, rows)), jnp.float32)

    def visit(e, step):
        h_i, v_i, r_i = step
        e = e * jnp.where(h_i[:, None] > 0, r_i[None], 1)
        return e, (1 / (1 + e)) @ v_i

    def visit_back(carry, step):
        e, later = carry
        h_i, v_i, r_i = step
        e = e * jnp.where(h_i[:, None] > 0, r_i[None], 1)
        z = 1 / (1 + e)
        later = later + h_i[:, None] * v_i[None] * z * (1 - z)
        return (e, later), (h_i @ z, h_i @ later)

    @fast_jit
    def walk(e):
        out = jax.lax.scan(visit, e, (h, v, r))[1]
        return (out, jax.lax.scan(visit_back, (e, e), (h, v, r))) if backward else out

    return lambda: walk(e)


def time_type(kind: str, inputs: int, units: int, rows: int, rounds: int) -> dict[str, tuple]:
    """Milliseconds, and the ratio to the floor, of an evaluation, its gradient and a draw."""
    rng = np.random.default_rng(0)
    structure, params = nnx.split(make_layer(kind, rng, inputs, units, Init()), nnx.Param)
    h, y = (jnp.asarray(rng.integers(0, 2, (rows, n)), jnp.float32) for n in (units, inputs))
    noise = jnp.asarray(rng.random((rows, units)), jnp.float32)

    def evaluation(params):
        return nnx.merge(structure, params).log_prob(h, y)

    def gradient(params):
        return jax.grad(lambda w: evaluation(w).sum())(params)

    def draw(params):
        return nnx.merge(structure, params).sample(noise, y)

    result = {}
    for name, program in {"evaluation": evaluation, "gradient": gradient, "draw": draw}.items():
        compiled = fast_jit(program)
        floor = floor_of(program, params)[0]
        if kind == "nade":
            floor = bare_walk(rows, units, 2 * units, backward=name == "gradient")
        jax.block_until_ready((compiled(params), floor()))
        seconds = alternate({"it": lambda f=compiled: f(params), "floor": floor}, rounds)
        result[name] = 1e3 * seconds["it"], seconds["it"] / seconds["floor"]
    return result


def main() -> None:
    """Print one line a type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"inputs": 100, "units": 100, "rows": 1000, "rounds": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = vars(parser.parse_args())
    print(f"{'ms (times its floor)':22s}{'evaluation':>16s}{'gradient':>16s}{'draw':>16s}")
    for kind in LAYERS:
        cells = time_type(kind, **sizes).values()
        print(f"{kind:22s}" + "".join(f"{ms:8.2f} ({ratio:4.2f})" + " " for ms, ratio in cells))


if __name__ == "__main__":
    main()
