"""Bars: 4x4 images whose distribution is known exactly, so that a model can be judged against it.

A fair coin chooses horizontal or vertical; each of the four bars of that orientation is then on
with probability 1/2 (after Hinton, Dayan, Frey and Neal 1995, The wake-sleep algorithm).
"""

import numpy as np

SIDE = 4
ROWS = {"train": 5000, "valid": 1000, "test": 5000}


def _table() -> np.ndarray:
    """The 32 equally likely (orientation, pattern) outcomes as images, uint8 (32, 16)."""
    patterns = (np.arange(2**SIDE)[:, None] >> np.arange(SIDE)) & 1
    horizontal = np.repeat(patterns, SIDE, axis=1)
    vertical = np.tile(patterns, (1, SIDE))
    return np.concatenate([horizontal, vertical]).astype(np.uint8)


def bars_distribution() -> tuple[np.ndarray, np.ndarray]:
    """The distinct images, uint8 (30, 16), and their probabilities, float64 (30,)."""
    # All-off and all-on are both horizontal and vertical: 30 images from 32 outcomes.
    states, counts = np.unique(_table(), axis=0, return_counts=True)
    return states, counts / counts.sum()


def _entropy() -> float:
    _, p = bars_distribution()
    return float(-(p * np.log(p)).sum())


BARS_ENTROPY = _entropy()  # nats; no model's mean log-likelihood can exceed its negative


def generate() -> dict[str, np.ndarray]:
    """The fixed splits, uint8 (rows, 16) each."""
    # RandomState, since its stream is frozen for good while Generator's may change with numpy.
    random = np.random.RandomState(0)
    table = _table()
    return {split: table[random.randint(len(table), size=n)] for split, n in ROWS.items()}
