"""A process of `bihm-train` that is not the first of its run: no folders, no log, and no app of Hydra's."""

from collections.abc import Sequence

from bihm.cli.compose import DIRECTORY, compose_words
from bihm.config import Config
from bihm.config.processes import ALONE, find_place, of_launcher
from bihm.errors import ConfigError


def config_of(words: Sequence[str]) -> Config | None:
    """The configuration that words make, where this process is not the first of several; else None.

    Raises:
        ConfigError: what `bihm-train` with these words would say; a sweep has no processes in common.
    """
    told = of_launcher() != ALONE
    asked = any(word.lstrip("+").startswith("distributed") for word in words)
    if not (told or asked) or "distributed.processes=1" in words:
        return None
    options = [word for word in words if word.startswith("-")]
    ours = [word for word in words if word not in options and not _is_hydras(word)]
    if {"-m", "--multirun"} & set(options):
        if not told and not any("distributed.process=" in word for word in words):
            return None  # for the jobs
        raise ConfigError(
            "several processes train one run, not a sweep; hydra/launcher=submitit_slurm with "
            "hydra.launcher.tasks_per_node=N starts them for each job"
        )
    if options:
        return None
    config, _ = compose_words(ours)
    return config if find_place(config.distributed).process > 0 else None


def _is_hydras(word: str) -> bool:
    key = word.partition("=")[0].lstrip("+~")
    return key.startswith(("hydra.", "hydra/")) and key != DIRECTORY
