"""log p of a part of a row, against sums over all states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states
from tiny_machine import tiny_machine

from bihm.errors import ConfigError
from bihm.machine.machine import bind, split
from bihm.machine.missing import check_factorised, seen_tile

SIGMAS, VISIBLE, TIMES = 5, 5, 400


@pytest.mark.long
@pytest.mark.parametrize("bottom", ["sbn", "dsbn"])
def test_the_probability_of_what_is_seen_is_estimated_without_bias(bottom):
    """By p and by p~*, for rows with masks of their own; whatever stands where something is missing."""
    machine = tiny_machine([bottom, "sbn", "darn"], "sbn", visible=VISIBLE, sizes=[3, 2])
    all_x, table = states(VISIBLE), exact(machine)
    rng = np.random.default_rng(0)
    x, seen = rng.integers(0, 2, (6, VISIBLE)), rng.random((6, VISIBLE)) < 0.5
    seen[0], seen[1] = True, False  # all of it: p(x); nothing: 1, and Z^2
    agree = [(all_x == row)[:, some].all(axis=1) for row, some in zip(x, seen, strict=True)]
    structure, params = split(machine)
    rows = np.tile(np.where(seen, x, 1 - x), (TIMES, 1))
    got = seen_tile(
        jax.random.key(0), structure, params, jnp.asarray(rows, jnp.float32),
        jnp.asarray(np.tile(seen, (TIMES, 1))), jnp.asarray(60), block=3, inner=2,
    )  # fmt: skip
    assert table.two_log_z < -0.1  # p* is another model than p
    for name, log_p in (("log_p", table.log_p), ("log_p_tilde_star", table.log_p_tilde_star)):
        truth = [np.exp(log_p)[one].sum() for one in agree]
        ratio = np.exp(np.asarray(getattr(got, name), np.float64)).reshape(TIMES, 6) / truth
        error = ratio.std(axis=0, ddof=1) / np.sqrt(TIMES)
        assert (np.abs(ratio.mean(axis=0) - 1) <= SIGMAS * error + 1e-5).all()
        assert (error < 0.02).all()  # so that a wrong sum would show


def test_a_q_that_is_certain_of_wrong_latents_costs_no_more_than_half_of_the_samples():
    """Half of them are from p(h), so that no weight is above 2 p(seen | h_1): log p is at most that low."""
    machine = tiny_machine(["sbn"] * 3, "sbn", visible=VISIBLE, sizes=[3, 2])
    structure, params = split(machine)
    for layer in params["q"].values():
        layer["b"].set_value(jnp.full_like(layer["b"].get_value(), -6.0))
    all_x, table = states(VISIBLE), exact(bind(structure, params))
    seen = np.arange(VISIBLE) < 2
    truth = [
        np.log(np.exp(table.log_p)[(all_x == row)[:, seen].all(axis=1)].sum()) for row in all_x
    ]
    got = seen_tile(
        jax.random.key(0), structure, params, jnp.asarray(all_x, jnp.float32),
        jnp.asarray(np.tile(seen, (len(all_x), 1))), jnp.asarray(2000), block=5,
    )  # fmt: skip
    np.testing.assert_allclose(got.log_p, truth, atol=0.2)
    assert (np.asarray(got.ess_p) > 0.2).all()


@pytest.mark.parametrize("bottom", ["darn", "nade"])
def test_bits_that_depend_on_each_other_cannot_be_summed_out(bottom):
    with pytest.raises(ConfigError, match=f"the first p.layer is {bottom}"):
        check_factorised(tiny_machine([bottom, "sbn", "sbn"], "sbn", visible=3, sizes=[2, 2]))
