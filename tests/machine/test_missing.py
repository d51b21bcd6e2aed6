"""log p of a part of a row, against sums over all states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states
from tiny_machine import tiny_machine

from bihm.errors import ConfigError
from bihm.machine.machine import split
from bihm.machine.missing import check_factorised, seen_tile

SIGMAS, VISIBLE, TIMES = 5, 5, 400


@pytest.mark.parametrize("bottom", ["sbn", pytest.param("dsbn", marks=pytest.mark.long)])
def test_the_probability_of_what_is_seen_is_estimated_without_bias(bottom):
    """For rows with masks of their own; whatever stands where something is missing."""
    machine = tiny_machine([bottom, "sbn", "darn"], "sbn", visible=VISIBLE, sizes=[3, 2], scale=1.0)
    table = np.exp(exact(machine).log_p)
    all_x = states(VISIBLE)
    rng = np.random.default_rng(0)
    x, seen = rng.integers(0, 2, (6, VISIBLE)), rng.random((6, VISIBLE)) < 0.5
    seen[0], seen[1] = True, False  # all of it: p(x); nothing: 1
    truth = [
        table[(all_x == row)[:, some].all(axis=1)].sum() for row, some in zip(x, seen, strict=True)
    ]
    assert truth[1] == pytest.approx(1)
    structure, params = split(machine)
    rows = np.tile(np.where(seen, x, 1 - x), (TIMES, 1))
    got = seen_tile(
        jax.random.key(0), structure, params, jnp.asarray(rows, jnp.float32),
        jnp.asarray(np.tile(seen, (TIMES, 1))), jnp.asarray(60), block=3,
    )  # fmt: skip
    ratio = np.exp(np.asarray(got, np.float64)).reshape(TIMES, 6) / truth
    error = ratio.std(axis=0, ddof=1) / np.sqrt(TIMES)
    assert (np.abs(ratio.mean(axis=0) - 1) <= SIGMAS * error + 1e-5).all()


@pytest.mark.parametrize("bottom", ["darn", "nade"])
def test_bits_that_depend_on_each_other_cannot_be_summed_out(bottom):
    with pytest.raises(ConfigError, match=f"the first p.layer is {bottom}"):
        check_factorised(tiny_machine([bottom, "sbn", "sbn"], "sbn", visible=3, sizes=[2, 2]))
