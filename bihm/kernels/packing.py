"""A machine's parameters as few arrays, so that an optimiser is a few loops and not fifty."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from bihm.types import Array, Float

Packed = list[Float[Array, "..."]]  # every large array, then all small ones in one vector
LARGE = 2**14  # numbers; copying so many takes a processor longer than another loop does


def pack(tree: Any) -> tuple[Packed, Callable[[Packed], Any]]:
    """The arrays of a tree in `Packed` form, and the function that undoes it for arrays of these shapes.

    On a small machine the start of a loop costs more than its work on a bias; but to collect 600,000
    numbers in one vector costs as much as a tenth of all matrix products of their step.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_small = [leaf.size < LARGE for leaf in leaves]
    large, small = ([x for x, s in zip(leaves, is_small, strict=True) if s == k] for k in (0, 1))
    vector, restore = ravel_pytree(small)

    def unpack(packed: Packed) -> Any:
        rest = restore(packed[-1]) if small else []
        sources = iter(packed), iter(rest)
        return jax.tree.unflatten(structure, [next(sources[s]) for s in is_small])

    return [*large, vector] if small else large, unpack  # no checkpoint takes an empty vector


def pieces(packed: Sequence[Any], sizes: Sequence[int]) -> Iterator[Any]:
    """The arrays of these sizes that `pack` packed, in their order; small ones are flat slices.

    For the host, where a slice is a view; a compiled program unpacks with what `pack` returns.
    """
    large, start = iter(packed), 0
    for size in sizes:
        if size < LARGE:
            yield packed[-1][start : start + size]
            start += size
        else:
            yield next(large)
