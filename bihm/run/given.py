"""log p of the missing part of rows, given what is seen of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bihm.machine.family import Report, silent
from bihm.machine.likelihood import check_meaning, mean_and_sem
from bihm.machine.machine import bind
from bihm.machine.missing import COMPLETIONS, PROPOSALS, check_factorised, seen_tile
from bihm.run.build import make_keys
from bihm.run.splits import TILE, each_tile
from bihm.run.trained import TrainedMachine

BLOCK = 10  # samples from each completion at once


def seen_pixels(machine: TrainedMachine, mask: str) -> np.ndarray:
    """Which pixels a mask says are seen: bool (visible,).

    Raises:
        ConfigError: the mask makes no sense, or the machine's bits cannot be summed out.
    """
    check_factorised(bind(machine.structure, machine.params))
    return machine.observed(mask, 0)


def log_p_seen(
    machine: TrainedMachine, rows: np.ndarray, seen: np.ndarray, K: int, report: Report = silent
) -> np.ndarray:
    """log p(seen part) of every row, (rows,), nats, float64: in the mean a lower bound.

    `rows` are uint8 (rows, visible), `seen` is bool (visible,). K samples of each, in whole blocks of 100.
    """
    key = jax.random.split(make_keys(machine.config.seed).pictures)[1]
    height = min(len(rows), max(1, TILE // (COMPLETIONS * max(BLOCK, PROPOSALS))))
    mask = jnp.asarray(np.broadcast_to(seen, (height, rows.shape[1])))

    def estimate(i: int) -> np.ndarray:
        tile = rows[i * height : (i + 1) * height]
        x = np.zeros((height, rows.shape[1]), np.float32)
        x[: len(tile)] = tile
        found = seen_tile(
            jax.random.fold_in(key, i), machine.structure, machine.params, jnp.asarray(x), mask,
            jnp.asarray(K, jnp.int32), block=BLOCK,
        )  # fmt: skip
        return np.asarray(found, np.float64)[: len(tile)]

    return np.concatenate(list(each_tile(estimate, -(-len(rows) // height), report)))


def given_block(log_p: np.ndarray, of_seen: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """What a file of estimates says of log p(missing | seen) = log p(x) - log p(seen), in nats.

    Raises:
        NumbersError: an estimate is not finite.
    """
    pairs = {
        name: dict(zip(("mean", "sem"), mean_and_sem(values), strict=True))
        for name, values in (("log_p_missing", log_p - of_seen), ("log_p_seen", of_seen))
    }
    check_meaning("the estimate of log_p_seen", pairs["log_p_seen"]["mean"])
    return {"seen": int(seen.sum()), "missing": int((~seen).sum()), **pairs}
