"""Rows and tiles spread over devices: the random numbers of each part, and what is put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import rare

from bihm.kernels import spread
from bihm.kernels.noise import uniforms

pytestmark = pytest.mark.skipif(
    jax.local_device_count() < 4, reason="needs four devices: conftest asks for so many processors"
)


@pytest.fixture(params=[2, *rare(4)])
def mesh(request):
    return spread.make_mesh(jax.devices()[: request.param])


def parts_of(function, mesh, rows_axis):
    """What the devices make of their rows, one after another along that axis."""

    def gathered():
        return jax.tree.map(
            lambda x: jax.lax.all_gather(x, spread.ROWS, axis=rows_axis, tiled=True), function()
        )

    return jax.jit(spread.spread_rows(gathered, mesh))()


def test_each_device_draws_the_numbers_of_its_rows(mesh):
    key, sizes = jax.random.key(3), [5, 3]

    def here():
        return uniforms(key, (7, spread.rows_here(8)), sizes)

    for found, alone in zip(parts_of(here, mesh, 1), uniforms(key, (7, 8), sizes), strict=True):
        np.testing.assert_array_equal(found, alone)


def test_each_device_dreams_its_rows(mesh):
    key = jax.random.key(4)
    (found,) = parts_of(lambda: uniforms(key, (spread.rows_here(12),), [5]), mesh, 0)
    np.testing.assert_array_equal(found, uniforms(key, (12,), [5])[0])


@pytest.mark.parametrize("axis", [1, *rare(0)])
def test_numbers_of_jax_are_those_of_its_rows_too(mesh, axis):
    key, whole = jax.random.key(5), [3, 3]
    whole[axis] = 8
    shape = [spread.rows_here, int][axis], [int, spread.rows_here][axis]

    def here():
        own = tuple(count(n) for count, n in zip(shape, whole, strict=True))
        return spread.own_draw(jax.random.uniform, key, own, axis)

    np.testing.assert_array_equal(parts_of(here, mesh, axis), jax.random.uniform(key, tuple(whole)))


def test_a_mean_is_over_all_rows_of_small_and_large_arrays_alike(mesh):
    x = jnp.arange(8 * 3.0).reshape(8, 3)
    large = jnp.arange(2**14 * 1.0)

    def mean(x):
        own = spread.own_rows(x)
        return spread.mean_over_parts((jnp.mean(own, axis=0), large * jnp.mean(own)))

    small, wide = jax.jit(spread.spread_rows(mean, mesh))(x)
    np.testing.assert_array_equal(small, np.mean(x, axis=0))
    np.testing.assert_array_equal(wide, np.mean(x) * large)


def test_arrays_are_put_on_all_devices_and_back(mesh):
    tree = {"w": jnp.ones((2, 3)), "key": jax.random.key(1)}
    there = spread.replicate(tree, mesh)
    assert spread.mesh_of(there["w"]) == mesh == spread.mesh_of(there["key"])
    assert spread.tiles_at_once(there["w"]) == mesh.size
    assert spread.mesh_of(spread.local(there["w"])) is None
    assert spread.replicate(tree, None) is tree is spread.local(tree)
