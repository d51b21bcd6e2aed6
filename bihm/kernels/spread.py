"""Work spread over devices: the rows of a batch, each device with its part, or whole tiles of rows.

A function is spread by `jax.shard_map`, so that each device runs the program that one device alone would,
on less. Within it the axis ROWS, or TILES, is there, and functions of the part ask here which part it is.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bihm.kernels.compiled import fast_jit
from bihm.kernels.packing import pack
from bihm.types import Array, PRNGKey

ROWS, TILES = "rows", "tiles"
Tree = TypeVar("Tree")


def make_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """These devices as one axis, over which the rows of a batch are spread."""
    return Mesh(np.asarray(devices), (ROWS,), axis_types=(AxisType.Auto,))


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """Copies of all arrays on every device of a mesh; without one, the same arrays."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, P())

    def put(x: Any) -> Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            key: Array = jax.random.wrap_key_data(put(jax.random.key_data(x)))
            return key
        # From the host: what other processes have of an array of this process is theirs. Of copies, whose
        # buffers a step may take for its own.
        host = np.array(x)
        return jax.make_array_from_callback(
            host.shape, everywhere, lambda index: host[index].copy()
        )

    copies: Tree = jax.tree.map(put, tree)
    return copies


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that `replicate` has put arrays on; None of what is on one device, or on the host."""
    sharding = getattr(jax.tree.leaves(tree)[0], "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    return mesh if isinstance(mesh, Mesh) else None


def local(tree: Tree) -> Tree:
    """Arrays for programs of one device: those of a mesh are copied to the first one of this process."""
    return tree if mesh_of(tree) is None else jax.device_put(jax.device_get(tree))


def spread_rows(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """The function on every device, from the same arguments to the same results: see `own_rows`."""
    if mesh is None:
        return function
    # Without jax's check that results agree: it would sum each use of a parameter's gradient by itself.
    return jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)


def parts() -> int:
    """Over how many devices rows are spread where this is traced; 1 where they are not."""
    mesh = jax.sharding.get_abstract_mesh()
    return int(mesh.shape[ROWS]) if ROWS in mesh.manual_axes else 1


def rows_here(rows: int) -> int:
    """How many of so many rows this device has; whoever chose the number has seen that they divide."""
    return rows // parts()


def own_rows(x: Array, axis: int = 0) -> Array:
    """The part of an array's rows that is this device's."""
    if parts() == 1:
        return x
    rows = rows_here(x.shape[axis])
    part: Array = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(ROWS) * rows, rows, axis)
    return part


def own_draw(
    draw: Callable[[PRNGKey, tuple[int, ...]], Array],
    key: PRNGKey,
    shape: tuple[int, ...],
    axis: int = 0,
) -> Array:
    """`draw(key, shape)` for this device's rows, which are of that shape: as one device would draw them."""
    whole = (*shape[:axis], shape[axis] * parts(), *shape[axis + 1 :])
    return own_rows(draw(key, whole), axis)


def own_counters(outer: int, inner: int) -> Array:
    """The places of this device's numbers among those of all, which lie as (outer, parts, inner)."""
    if parts() == 1:
        return jax.lax.iota(jnp.uint32, outer * inner)
    first, place = (jax.lax.broadcasted_iota(jnp.uint32, (outer, inner), i) for i in (0, 1))
    part = first * jnp.uint32(parts()) + jnp.uint32(jax.lax.axis_index(ROWS))
    return jnp.reshape(part * jnp.uint32(inner) + place, outer * inner)


def mean_over_parts(tree: Tree) -> Tree:
    """The mean over devices, of what is a number for each of their rows or a mean over these.

    What is small goes in one vector: each array by itself would cost a round among the devices.
    """
    if parts() == 1:
        return tree
    packed, unpack = pack(tree)
    mean: Tree = unpack(jax.lax.pmean(packed, ROWS))
    return mean


class Tiles:
    """What one call of a tile function made for each of several tiles."""

    def __init__(self, values: Any, count: int | None) -> None:
        self.values = values  # with a leading axis of so many tiles, or of one tile without it
        self._count = count

    def __getitem__(self, number: int) -> Any:
        """The results of one tile, on the host; waits for the device."""
        if self._count is None:
            return jax.tree.map(np.asarray, self.values)
        return jax.tree.map(lambda x: np.asarray(x)[number], self.values)


def tiles_at_once(params: Any) -> int:
    """How many tiles one call works on: one for each device that the parameters are on."""
    mesh = mesh_of(params)
    return 1 if mesh is None else mesh.size


def work_on_tiles(
    tile: Callable[..., Any],
    key: PRNGKey,
    numbers: Sequence[int],
    structure: Any,
    params: Any,
    each: Sequence[Any] = (),
    common: Sequence[Any] = (),
    **static: Any,
) -> Tiles:
    """`tile(fold_in(key, number), structure, params, *each, *common, **static)` for each number of a tile.

    There are as many of them as `tiles_at_once` says. Of several, arrays in `each` have a leading axis, and
    each device runs the program of one tile: so the numbers are the same on any number of devices.
    """
    mesh = mesh_of(params)
    if mesh is None:
        own = jax.random.fold_in(key, numbers[0])
        return Tiles(tile(own, structure, params, *each, *common, **static), None)
    values = _spread_tiles(
        np.asarray(jax.random.key_data(key)), np.asarray(numbers, np.int32), params, tuple(each),
        tuple(common), tile=tile, structure=structure, mesh=mesh, static=tuple(static.items()),
    )  # fmt: skip
    return Tiles(values, len(numbers))


@partial(fast_jit, static_argnames=("tile", "structure", "mesh", "static"))
def _spread_tiles(
    words: Any,
    numbers: Any,
    params: Any,
    each: tuple[Any, ...],
    common: tuple[Any, ...],
    *,
    tile: Callable[..., Any],
    structure: Any,
    mesh: Mesh,
    static: tuple[tuple[str, Any], ...],
) -> Any:
    def own(number: Array, each: Any, params: Any, common: Any) -> Any:
        key = jax.random.fold_in(jax.random.wrap_key_data(words), number[0])
        mine = jax.tree.map(lambda x: x[0], each)
        made = inspect.unwrap(tile)(key, structure, params, *mine, *common, **dict(static))
        return jax.lax.all_gather(made, TILES)

    tiles = Mesh(mesh.devices, (TILES,), axis_types=(AxisType.Auto,))
    return jax.shard_map(
        own, mesh=tiles, in_specs=(P(TILES), P(TILES), P(), P()), out_specs=P(), check_vma=False
    )(numbers, each, params, common)
