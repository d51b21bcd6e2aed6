"""The terms of each layer: together they are the evidence bound, and on average KL(q(h | x) || p(h))."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states
from tiny_machine import SIZES, tiny_machine

from bihm.kernels.compiled import fast_jit
from bihm.machine.layer_terms import kl_terms, layer_terms, units_in_use
from bihm.machine.machine import split

X = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], np.float32)


@pytest.mark.parametrize("kind", [pytest.param("sbn", marks=pytest.mark.long), "darn"])
def test_they_are_what_the_latents_take_from_the_bound(kind):
    """log w = log p(x | h_1) - sum_l of the terms, for each sample."""
    machine = tiny_machine(kind, kind, sizes=[4, 3])
    x = jnp.asarray(X)

    @fast_jit
    def both():
        h, log_q = machine.sample_q(jax.random.key(1), x, 7)
        left = machine.p[0].log_prob(x, h[0]) - (machine.log_p(x, h) - log_q)
        return kl_terms(machine, x, h), left

    terms, left = both()
    assert terms.shape == (7, len(X), len(machine.sizes))
    np.testing.assert_allclose(terms.sum(axis=-1), left, rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_each_mean_is_its_sum_over_all_states():
    """D_l = E_q[log q(h_l | h_{l-1}) - log p(h_l | h_{l+1})] by enumeration; activity E_q[h]."""
    machine = tiny_machine()
    structure, params = split(machine)
    samples = 20_000
    found = layer_terms(jax.random.key(0), structure, params, jnp.asarray(X), samples=samples)
    bits = states(sum(SIZES)).astype(np.float32)
    h = [jnp.asarray(part) for part in np.split(bits, np.cumsum(SIZES)[:-1], axis=1)]
    of_each = []
    for i, row in enumerate(X):
        x = jnp.broadcast_to(jnp.asarray(row), (len(bits), len(row)))
        q = np.exp(np.asarray(machine.log_q(x, h), np.float64))
        np.testing.assert_allclose(q.sum(), 1, rtol=1e-5)
        terms = np.asarray(kl_terms(machine, x, h), np.float64)
        mean = q @ terms
        error = np.sqrt((q @ terms**2 - mean**2) / samples)
        assert (np.abs(np.asarray(found.kl)[i] - mean) < 5 * error).all()
        of_each.append([q @ np.asarray(layer, np.float64) for layer in h])
    for layer, each in zip(found.activity, zip(*of_each, strict=True), strict=True):
        mean = np.mean(each, axis=0)
        error = np.sqrt(mean * (1 - mean) / samples / len(X))
        assert (np.abs(np.asarray(layer) - mean) < 5 * error).all()


@pytest.mark.long
def test_a_layer_without_use_takes_nothing():
    """Where q(h_L | h_{L-1}) is p(h_L), the top layer's KL is zero."""
    machine = tiny_machine()
    machine.q[-1].w[...] = jnp.zeros_like(machine.q[-1].w[...])
    machine.q[-1].b[...] = machine.p[-1].b[...]
    h, _ = machine.sample_q(jax.random.key(2), jnp.asarray(X), 9)
    np.testing.assert_array_equal(kl_terms(machine, jnp.asarray(X), h)[..., -1], 0)
    assert exact(machine).p.sum() == pytest.approx(1)


def test_a_unit_in_use_takes_both_values_now_and_then():
    assert units_in_use(np.array([0, 0.009, 0.01, 0.5, 0.99, 0.991, 1])) == 3
