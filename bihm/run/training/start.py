"""The parameters that a new run starts from, where `init.from` names another run or a weights file."""

import os
from pathlib import Path

from bihm import paths
from bihm.config import Config
from bihm.errors import BihmError, ConfigError, DataError
from bihm.records.checkpoint import has_begun
from bihm.records.digests import digest_arrays, noted_digest
from bihm.records.run_files import require_run, write_text
from bihm.run.build import Run
from bihm.run.load import misfit, read_run, read_weights, shapes_of


def start_from(run: Run, directory: Path) -> Run:
    """Give a run the parameters that `init.from` names; once it has a checkpoint, nothing is read.

    Raises:
        ConfigError: there is no such run or file, or its parameters are not of this run's shapes.
        DataError: it is damaged.
    """
    path = resolve(run.config)
    if path is None or has_begun(directory):
        return run
    if path == directory.absolute():
        raise ConfigError(f"init.from={path} is this run's own directory; name another run")
    if not os.path.lexists(path):
        raise ConfigError(f"init.from={path}: there is no such run directory or weights file")
    if os.path.isdir(path):
        require_run(path, "init.from")
    try:
        source = read_run(path) if os.path.isdir(path) else read_weights(path)
    except BihmError as error:
        raise type(error)(f"init.from={path}: {error}") from error
    if type(source.family) is not type(run.family):
        one, other = source.config.model.name, run.config.model.name
        raise ConfigError(
            f"init.from={path}: is of model={one}; its parameters are none of model={other}"
        )
    theirs, ours = shapes_of(source.params), shapes_of(run.params)
    if unfit := misfit(theirs, ours, "this run's machine"):
        raise ConfigError(f"init.from={path}: {unfit}")
    if source.structure != run.structure:
        raise ConfigError(f"init.from={path}: its layers differ from this run's in their options")
    return run._replace(params=source.params)


def resolve(config: Config) -> Path | None:
    """The path of `init.from`, made absolute in the configuration: a run is read again from elsewhere."""
    if config.init["from"] is None:
        return None
    path = os.path.abspath(paths.expand(config.init["from"]))
    config.init["from"] = path
    return Path(path)


def hold_to_its_start(run: Run, directory: Path) -> None:
    """See that a run that has no checkpoint yet starts from the parameters that it began with."""
    if run.config.init["from"] is None or has_begun(directory):
        return
    digest, path = digest_arrays(run.params), directory / ".start"
    if noted_digest(path) not in (None, digest):
        raise DataError(
            f"init.from={run.config.init['from']}: other parameters than when {directory} began; "
            "put them back, or choose another hydra.run.dir"
        )
    write_text(path, f"{digest}\n")
