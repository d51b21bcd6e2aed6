"""The parameters that a new run starts from, where `init.from` names another run or a weights file."""

import os
from pathlib import Path

import jax

from bihm import paths
from bihm.config import Config
from bihm.errors import BihmError, ConfigError, DataError
from bihm.machine.machine import Params, parameter_names
from bihm.records.checkpoint import has_begun
from bihm.records.digests import digest_arrays, noted_digest
from bihm.records.run_files import write_text
from bihm.run.build import Run
from bihm.run.load import read_run, read_weights


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
    try:
        source = read_run(path) if os.path.isdir(path) else read_weights(path)
    except BihmError as error:
        raise type(error)(f"init.from={path}: {error}") from error
    _check_fit(path, source.params, run.params)
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


def _check_fit(path: Path, source: Params, wanted: Params) -> None:
    def shapes(params: Params) -> dict[str, tuple[int, ...]]:
        leaves = (leaf.shape for leaf in jax.tree.leaves(params))
        return dict(zip(parameter_names(params), leaves, strict=True))

    theirs, ours = shapes(source), shapes(wanted)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise ConfigError(
                f"init.from={path}: {_misfit(name, theirs.get(name), ours.get(name))}"
            )


def _misfit(name: str, theirs: tuple[int, ...] | None, ours: tuple[int, ...] | None) -> str:
    if theirs is None:
        return f"has no {name}, which this run's machine needs in shape {ours}"
    if ours is None:
        return f"has {name}, which this run's machine does not have"
    return f"{name} has shape {theirs}; this run's machine needs {ours}"


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
