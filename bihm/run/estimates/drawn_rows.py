"""Some rows of a split, drawn at random: for a K that there is no time for with all of them."""

from typing import NamedTuple

import numpy as np

from bihm.errors import ConfigError
from bihm.run.estimates.listener import Listener


class DrawnRows(NamedTuple):
    """Rows of a split, and what its files say of them; nothing where they are all of it."""

    rows: np.ndarray
    about: dict[str, int]  # drawn_from: how many the split has
    arrays: dict[str, np.ndarray]  # row: their numbers in the split


def draw_rows(rows: np.ndarray, count: int | None, split: str, to: Listener) -> DrawnRows:
    """Draw `count` of the rows of a split, none twice, in their order, and say so; None: all of them.

    Which ones depends on nothing else: every machine and every K has the same rows, and more rows have the
    fewer among them.

    Raises:
        ConfigError: the split has not so many.
    """
    if count is None:
        return DrawnRows(rows, {}, {})
    if count > len(rows):
        raise ConfigError(f"rows={count}, but split={split} has {len(rows)} rows")
    to.say(f"{count} of the {len(rows)} rows of split={split}, drawn at random, the same each time")
    numbers = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
    return DrawnRows(rows[numbers], {"drawn_from": len(rows)}, {"row": numbers})
