"""The machine's shapes, sizes and starting values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_machine import SIZES, VISIBLE, tiny_machine

from bihm.machine.layer_sizes import layer_sizes
from bihm.machine.layers import Init
from bihm.machine.layers.conditional import initial_weights
from bihm.machine.machine import (
    HelmholtzMachine,
    count_parameters,
    make_machine,
    parameter_names,
    split,
)

PAPER = [300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10]


def test_the_papers_sizes_and_parameters():
    assert layer_sizes(12, 784) == PAPER
    rng = np.random.default_rng(0)
    machine = make_machine(rng, 784, PAPER, ["sbn"] * 13, ["sbn"] * 12, Init())
    assert count_parameters(split(machine)[1]) == 664_624  # "about 665,000" in the paper
    assert machine.n_visible == 784
    assert machine.sizes == PAPER


@pytest.mark.parametrize("n_visible", [1, 16, 64, 784, 5000])
def test_more_depth_adds_layers_on_top(n_visible):
    for depth in range(1, 20):
        sizes = layer_sizes(depth, n_visible)
        assert len(sizes) == depth
        assert sizes == layer_sizes(depth + 1, n_visible)[:depth]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] >= 10


def test_samples_have_the_documented_shapes():
    sizes = [4, 3]
    machine = tiny_machine(sizes=sizes)

    @jax.jit
    def draw(key):
        from_q, from_p = jax.random.split(key)
        x = jnp.zeros((7, VISIBLE))
        h, log_q = machine.sample_q(from_q, x, 6)
        return h, log_q, machine.log_q(x, h), *machine.sample_p(from_p, 6)

    with jax.debug_key_reuse(True):  # no key is used twice
        h, log_q, again, x, dreamt = draw(jax.random.key(0))
    assert [a.shape for a in h] == [(6, 7, n) for n in sizes]
    assert log_q.shape == (6, 7)
    np.testing.assert_allclose(log_q, again, rtol=1e-5)
    assert x.shape == (6, VISIBLE)
    assert [a.shape for a in dreamt] == [(6, n) for n in sizes]
    assert set(np.unique(x)) <= {0.0, 1.0}


def test_initial_values_are_the_authors():
    rng = np.random.default_rng(0)
    bound = (6 / (40 + 30)) ** 0.5
    authors = np.abs(initial_weights(rng, 40, 30, Init()))
    assert 0.95 * bound / 40 < authors.max() <= bound / 40
    glorot = np.abs(initial_weights(rng, 40, 30, Init("glorot")))
    assert 0.95 * bound < glorot.max() <= bound
    machine = make_machine(rng, 5, [4, 3], ["sbn"] * 3, ["sbn"] * 2, Init())
    for layer in (*machine.p, *machine.q):
        np.testing.assert_array_equal(layer.b[...], -1)


def test_the_visible_bias_can_start_at_the_data():
    mean = jnp.asarray([0.0, 0.2, 0.5, 0.9, 1.0])
    rng = np.random.default_rng(0)
    machine = make_machine(rng, 5, [4], ["sbn"] * 2, ["sbn"], Init(), mean)
    p = jax.nn.sigmoid(machine.p[0].b[...])
    np.testing.assert_allclose(p, [0.001, 0.2, 0.5, 0.9, 0.999], rtol=1e-4)
    np.testing.assert_array_equal(machine.q[0].b[...], -1)


def test_p_needs_one_layer_more_than_q():
    machine = tiny_machine()
    with pytest.raises(ValueError, match="one layer more"):
        HelmholtzMachine(list(machine.p)[:-1], list(machine.q))


def test_parameters_have_names_in_the_order_of_their_leaves():
    params = split(tiny_machine())[1]
    names = parameter_names(params)
    assert names == [
        *("p.0.b", "p.0.w", "p.1.b", "p.1.w", "p.2.b", "p.2.w", "p.3.b"),
        *("q.0.b", "q.0.w", "q.1.b", "q.1.w", "q.2.b", "q.2.w"),
    ]
    by_name = dict(zip(names, jax.tree.leaves(params), strict=True))
    assert by_name["q.1.w"].shape == (SIZES[0], SIZES[1])
    assert by_name["p.3.b"].shape == (SIZES[-1],)
