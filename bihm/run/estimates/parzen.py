"""Densities of real numbers over splits: Parzen estimates, and log p(x, h) along inference."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bihm.data import Dataset
from bihm.machine.family import Family, Keys, Report
from bihm.machine.likelihood import check_meaning
from bihm.machine.machine import Params, Structure
from bihm.machine.parzen import choose_sigma, parzen_log_p
from bihm.records.results import pair_of
from bihm.types import Float

MOST_MEANS = 10**6  # as samples of an estimate
WHAT = "nats of densities of real numbers, log_p_xh without constants; not comparable with log p of bits"


def levels(rows: np.ndarray, grey: bool) -> np.ndarray:
    """Stored rows as real numbers in [0, 1]: grey levels as they are, bits as 0 and 1."""
    return np.asarray(rows, np.float32) / np.float32(255 if grey else 1)


def training_rows(train: np.ndarray, samples: int) -> np.ndarray:
    """So many training rows, or all: as samples they are the anchor, what real data reach."""
    picked = np.random.default_rng(0).permutation(len(train))[:samples]
    return np.asarray(train[picked])


def split_density(
    family: Family,
    keys: Keys,
    structure: Structure,
    params: Params,
    dataset: Dataset,
    split: str,
    samples: int,
    report: Report,
) -> dict[str, Any]:
    """The block of one split of a dataset, as real numbers in [0, 1]."""

    def rows(name: str) -> np.ndarray:
        return levels(getattr(dataset, name), dataset.grey)

    return family.densities(keys, structure, params, rows, (split,), samples, report)[split]


def density_blocks(
    sources: Mapping[str, Float[np.ndarray, "samples visible"]],
    rows: Callable[[str], Float[np.ndarray, "rows visible"]],
    splits: Sequence[str],
    anchors: int,
    report: Report,
) -> dict[str, dict[str, Any]]:
    """A block of `results.json` for each split: the estimate from each source of samples, and its anchor.

    The anchor is what `anchors` training rows as samples reach; train has none, whose rows would be their
    own samples. Each source has a sigma of its own, chosen on valid. `rows` gives those of a split, within
    [0, 1].
    """
    valid, wanted = rows("valid"), {split: rows(split) for split in splits}
    blocks: dict[str, dict[str, Any]] = {
        split: {"examples": len(some), "densities": WHAT} for split, some in wanted.items()
    }
    for name, samples in {
        **sources,
        "parzen_anchor": training_rows(rows("train"), anchors),
    }.items():
        sigma, _ = choose_sigma(valid, samples, report)
        for split, some in wanted.items():
            if (name, split) == ("parzen_anchor", "train"):
                continue
            values = parzen_log_p(some, samples, np.array([sigma]), report)[0]
            blocks[split][name] = density_block(sigma, values, len(samples))
    return blocks


def density_block(sigma: float, values: Float[np.ndarray, " rows"], samples: int) -> dict[str, Any]:
    """A Parzen estimate as `results.json` has it."""
    pair = pair_of(values)
    check_meaning("the Parzen estimate", pair["mean"])
    return {**pair, "sigma": sigma, "samples": samples}


def path_block(path: Float[np.ndarray, "steps rows"]) -> dict[str, Any]:
    """log p(x, h) after inference, its mean at each step, and how often a step of a row went down."""
    down = float((np.diff(path, axis=0) < 0).mean()) if len(path) > 1 else 0.0
    return {
        "log_p_xh": pair_of(path[-1]),
        "log_p_xh_by_step": [float(value) for value in path.mean(axis=1)],
        "log_p_xh_steps_down": down,
    }
