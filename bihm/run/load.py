"""A trained machine and whose it is, read from a run or from a weights file."""

import os
from pathlib import Path

import jax
import numpy as np

from bihm import paths
from bihm.config import differences
from bihm.config import load as load_config
from bihm.config.checks import read_devices
from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.kernels.numerics import on_device
from bihm.kernels.spread import replicate
from bihm.machine.machine import Params, parameter_names
from bihm.machine.training_step import evaluated_params
from bihm.records import weights
from bihm.records.checkpoint import read_checkpoint
from bihm.records.orbax_messages import root_left_alone
from bihm.records.run_files import place, require_run
from bihm.run.build import make_parts, saved_like
from bihm.run.trained import TrainedMachine
from bihm.run.training.devices import chosen_mesh
from bihm.run.training.own_rows import digest_of_rows

WEIGHTS = "weights.safetensors"  # of bihm-export, in the run
Shapes = dict[str, tuple[int, ...]]  # of arrays, by name


@disk_refusals()
@root_left_alone()
def load(path: str | os.PathLike[str]) -> TrainedMachine:
    """Read the machine of a run directory, or of a weights file that bihm-export wrote.

    Raises:
        ConfigError: nothing is there, or neither of the two.
        DataError: it is damaged, or an unfinished run has no checkpoint yet.
    """
    where = Path(paths.expand(os.fspath(path)))
    absolute = Path(os.path.abspath(where))  # the machine knows its files wherever the program goes
    if os.path.isdir(where):  # Path.is_dir raises on a name that is too long
        if not os.path.isfile(where / "config.yaml"):
            raise ConfigError(f"{where} is not a run directory: it has no config.yaml")
        return read_run(absolute)
    if not os.path.lexists(where):
        raise ConfigError(f"{where}: there is no such run directory or weights file")
    return read_weights(absolute)


def read_run(directory: Path) -> TrainedMachine:
    """Read the best state of a run from its newest whole checkpoint; nothing is changed.

    A published run has no checkpoints, and its best state in `weights.safetensors`.

    Raises:
        ConfigError: there is no run, or its `config.yaml` is damaged.
        DataError: no checkpoint, none that is whole, one of another run, or numbers alone were kept.
    """
    path = require_run(directory) / "config.yaml"
    config = load_config(path)
    try:
        structure, like = saved_like(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    published, kept = directory / WEIGHTS, os.path.isdir(directory / "checkpoints")
    if not kept and os.path.isfile(published):
        exported = read_weights(published)
        if changed := differences(exported.config, config):
            raise DataError(f"{published}: is of another run: {', '.join(changed)}")
        machine = TrainedMachine(config, structure, exported.params, f"{directory}/")
        machine.exported_rows = exported.exported_rows
        return machine
    if not kept and os.path.isfile(directory / "results.json"):
        raise DataError(
            f"{directory}: results.json has the numbers of this run, but its parameters are gone: there is "
            f"neither checkpoints nor {WEIGHTS}; bihm-train like={directory} trains it again"
        )
    params = evaluated_params(read_checkpoint(directory, config, like).best)
    return TrainedMachine(config, structure, params, f"{directory}/")


def put_on(machine: TrainedMachine, devices: str) -> TrainedMachine:
    """Let the estimates of a machine be spread over "all" devices, or so many.

    Raises:
        ConfigError: there are not so many, or it is no number.
    """
    machine.params = replicate(machine.params, chosen_mesh(read_devices(devices)))
    return machine


@disk_refusals()
def export(directory: Path, out: str | None = None) -> Path:
    """Write the best state of a run as a weights file, by default `weights.safetensors` in the run."""
    config = load_config(require_run(directory) / "config.yaml")
    reads = [config.dataset.path, config.init["from"]]
    path = place(out, directory / WEIGHTS, ".safetensors", reads=reads)
    trained = read_run(directory)
    names = parameter_names(trained.params)
    leaves = map(np.asarray, jax.tree.leaves(trained.params))
    arrays = dict(zip(names, leaves, strict=True))
    rows = trained.exported_rows or digest_of_rows(directory)
    weights.write(path, weights.Exported(trained.config, arrays, rows))
    return path


def read_weights(path: Path) -> TrainedMachine:
    """Read a machine from a weights file.

    Raises:
        DataError: the file is missing, damaged or foreign, or its arrays do not fit its configuration.
    """
    config, arrays, rows = weights.read(path)
    try:
        structure, params, _ = make_parts(config)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
    shapes = shapes_of(params)
    if unfit := misfit(
        {name: array.shape for name, array in arrays.items()}, shapes, "its machine"
    ):
        raise DataError(f"{path}: {unfit}")
    params = jax.tree.unflatten(jax.tree.structure(params), [on_device(arrays[n]) for n in shapes])
    machine = TrainedMachine(config, structure, params, f"{path}.")
    machine.exported_rows = rows
    return machine


def shapes_of(params: Params) -> Shapes:
    """The shape of each parameter, by its name."""
    leaves = (leaf.shape for leaf in jax.tree.leaves(params))
    return dict(zip(parameter_names(params), leaves, strict=True))


def misfit(theirs: Shapes, ours: Shapes, machine: str) -> str:
    """Say which of their arrays is not a parameter of our `machine`; nothing where all are."""
    for name in sorted(theirs.keys() | ours.keys()):
        found, wanted = theirs.get(name), ours.get(name)
        if found is None:
            return f"has no {name}, which {machine} needs in shape {wanted}"
        if wanted is None:
            return f"has {name}, which {machine} does not have"
        if found != wanted:
            return f"{name} has shape {found}; {machine} needs {wanted}"
    return ""
