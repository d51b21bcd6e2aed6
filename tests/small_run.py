"""Runs of a second on `bars`, and what tests look at in them."""

import json

import jax
import numpy as np

from bihm.config import Config, load
from bihm.records.checkpoint import read_checkpoint
from bihm.run.build import saved_like
from bihm.run.training import loop

EACH_EPOCH = {"epochs": 4, "checkpoint__every_seconds": 0.0}  # a checkpoint, that is


def tiny(**changes):
    """A run of a second on `bars`."""
    config = Config(layers=[6, 3], depth=2, K=4, batch_size=250, epochs=4)
    config.dataset.name, config.dataset.image_shape = "bars", [4, 4]
    config.dataset.n_features = 16
    config.stop.patience = None
    config.eval.every, config.eval.K, config.eval.final_K = 1, 5, 15
    # Whole tiles: they share a program.
    config.eval.z_outer, config.eval.final_z_outer, config.eval.z_inner = 400, 800, 5
    for key, value in changes.items():
        node = config
        *path, last = key.split("__")
        for name in path:
            node = getattr(node, name)
        if isinstance(node, dict):  # `init` is a mapping
            node[last] = value
        else:
            setattr(node, last, value)
    return config


def own_rows(path, seed=0):
    """The path of a new .npz of random bits, in splits of the sizes of `bars`: they share its programs."""
    random = np.random.default_rng(seed)
    sizes = {"train": 5000, "valid": 1000, "test": 5000}
    splits = {
        name: random.integers(0, 2, (rows, 16), dtype=np.uint8) for name, rows in sizes.items()
    }
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **splits)
    return path


def arrays_in(path):
    """The arrays of an .npz file, which is closed again: numpy keeps it open for whoever may ask later."""
    with np.load(path) as file:
        return dict(file)


def metrics(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def without_clock(records):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def numbers(results):
    return {**results, "train": {**results["train"], "seconds": None}}


def saved(directory):
    config = load(directory / "config.yaml")
    return read_checkpoint(directory, config, saved_like(config)[1])


def assert_same_state(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


class StopAt:
    """Asks to stop when a given number of chunks, and of tiles of estimates, have been done."""

    def __init__(self, monkeypatch, chunks):
        self.left = chunks
        original = loop.TrainingLoop.heed_signals

        def heed(running, *tiles):
            self.left -= 1
            if self.left == 0:
                running.stop.signal = "SIGTERM"
            original(running)

        monkeypatch.setattr(loop.TrainingLoop, "heed_signals", heed)
