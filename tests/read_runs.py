"""Runs as a report reads them, made up."""

import itertools
from pathlib import Path

from bihm.config import Config, flatten
from bihm.report.files import RunFiles

PLACES = itertools.count()  # no two runs lie in one


def run(label="a", score=None, **changes):
    """A finished run on `digits`-like rows with these keys (model__name=..) and this log p of valid."""
    row = {**flatten(Config()), "layers": [6, 3], "depth": 2, "dataset.n_features": 16}
    row |= {key.replace("__", "."): value for key, value in changes.items()}
    numbers = {} if score is None else {"valid.log_p": score}
    return RunFiles(Path(str(next(PLACES))), label, {"status": "finished", **row, **numbers}, [])
