"""A trained machine and whose it is, read from where it was left."""

from pathlib import Path
from typing import NamedTuple

from bihm.build import saved_like
from bihm.checkpoint import read_checkpoint
from bihm.config import Config, load
from bihm.errors import ConfigError
from bihm.learner import evaluated_params
from bihm.model import Params, Structure
from bihm.runfiles import require_run


class Trained(NamedTuple):
    """The best state of a run, ready for estimates and samples."""

    config: Config
    structure: Structure
    params: Params  # those that estimates are made of
    stem: str  # path and beginning of the name of all that is made of it


def read_run(directory: Path) -> Trained:
    """Read the best state of a run from its newest whole checkpoint; nothing is changed.

    Raises:
        ConfigError: there is no run, or its `config.yaml` is damaged.
        DataError: no checkpoint, none that is whole, or one of another run.
    """
    path = require_run(directory) / "config.yaml"
    config = load(path)
    if config.layers is None or config.dataset.n_features is None:
        raise ConfigError(f"{path}: damaged: a run's layers and dataset.n_features are never null")
    structure, like = saved_like(config)
    params = evaluated_params(read_checkpoint(directory, config, like).best)
    return Trained(config, structure, params, f"{directory}/")
