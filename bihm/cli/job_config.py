"""From what Hydra composed for a job to its checked configuration."""

from collections.abc import Iterable

from hydra.utils import to_absolute_path
from omegaconf import DictConfig

from bihm import paths
from bihm.config import Config, parse


def job_config(raw: DictConfig, words: Iterable[str]) -> Config:
    """Check what `words` make, with paths as they are where the user is, whatever hydra.job.chdir says.

    Raises:
        ConfigError: as `bihm.config.parse`.
    """
    config = parse(raw, [word.partition("=")[0].lstrip("+~") for word in words])
    if config.dataset.path is not None:
        config.dataset.path = to_absolute_path(paths.expand(config.dataset.path))
    if config.init["from"] is not None:
        config.init["from"] = to_absolute_path(paths.expand(config.init["from"]))
    return config
