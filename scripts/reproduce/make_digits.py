"""Make bihm/data/digits.npz from the 1,797 8x8 digits that scikit-learn carries.

    python scripts/reproduce/make_digits.py

A pixel is on when its value is at least 8, half of the full ink of 16. Of every class 20 images go
to valid and 20 to test, the other 1,397 images to train; the rows of each split are shuffled.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from bihm.data.archive import pack, whole

PER_CLASS = 20


def make() -> dict[str, np.ndarray]:
    """The arrays of digits.npz in the packed format: train, valid, test, n_features."""
    digits = load_digits()
    bits = (digits.data >= 8).astype(np.uint8)
    random = np.random.RandomState(0)
    parts: dict[str, list[np.ndarray]] = {"train": [], "valid": [], "test": []}
    for label in range(10):
        rows = random.permutation(np.flatnonzero(digits.target == label))
        parts["valid"].append(rows[:PER_CLASS])
        parts["test"].append(rows[PER_CLASS : 2 * PER_CLASS])
        parts["train"].append(rows[2 * PER_CLASS :])
    arrays = {
        split: pack(bits[random.permutation(np.concatenate(rows))]) for split, rows in parts.items()
    }
    return {**arrays, "n_features": np.array(64, dtype=np.int64)}


def main() -> None:
    """Write the file where the package looks for it."""
    target = Path(__file__).resolve().parents[2] / "bihm" / "data" / "digits.npz"
    with whole(target) as stream:
        np.savez(stream, **make())  # uncompressed: the same bytes with every zlib


if __name__ == "__main__":
    main()
