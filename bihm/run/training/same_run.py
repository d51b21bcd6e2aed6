"""What a run directory holds already, and whether this run may go on in it."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from bihm.config import Config, differences, load
from bihm.errors import BihmError, ConfigError, DataError
from bihm.records.results import summary
from bihm.records.run_files import read_json
from bihm.run.training.own_rows import are_its_rows
from bihm.run.training.raised_limits import is_longer

log = logging.getLogger("bihm")


def check_claim(config: Config, directory: Path) -> Config | None:
    """See that what is there, if anything, is of the same run; return its configuration."""
    path = directory / "config.yaml"
    if path.is_file():
        saved = load(path)
        if changed := differences(saved, config):
            raise ConfigError(
                f"{directory} holds another run: {', '.join(changed)}; choose another hydra.run.dir"
            )
        return saved
    if (directory / "results.json").exists():
        raise ConfigError(
            f"{directory} holds the results of a run but not its config.yaml; put that back, "
            "or choose another hydra.run.dir"
        )
    return None


def nothing_to_do(saved: Config, config: Config, directory: Path) -> bool:
    """Whether `train` would leave a run that was `saved` as it is; nothing is written.

    What it would refuse, or look at itself, is not said here: False.
    """
    with contextlib.suppress(BihmError):
        wanted = config if config.dataset.path is None else _filled(config, saved)
        if differences(saved, wanted):  # which may have another number of phases
            return False
        results = finished_results(directory)
        if results is None or is_longer(saved, config, results):
            return False
        return are_its_rows(config, directory)
    return False


def _filled(config: Config, saved: Config) -> Config:
    """With what is known of a file once it is read, which `saved` was."""
    dataset = replace(config.dataset, n_features=saved.dataset.n_features)
    return replace(config, dataset=dataset, layers=config.layers or saved.layers)


def finished_results(directory: Path) -> dict[str, Any] | None:
    """The results of a run that has ended already."""
    status, results = (_recall(directory / name) for name in ("status.json", "results.json"))
    if results is None or status is None or status.get("status") != "finished":
        return None
    try:
        summary(results)
    except (KeyError, TypeError, ValueError, AttributeError):
        log.warning("%s is damaged; it is made again", directory / "results.json")
        return None
    return results


def _recall(path: Path) -> dict[str, Any] | None:
    """One of the files that a run makes again from its checkpoint; None if it is absent or damaged."""
    if not path.exists():
        return None
    with contextlib.suppress(DataError):
        content = read_json(path)
        if isinstance(content, dict):
            return content
    log.warning("%s is damaged; it is made again", path)
    return None
