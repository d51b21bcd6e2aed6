"""The numbers of a best state: at the end of its run, or again at any K and on any dataset of its width."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from bihm.build import Keys, make_keys, split_rows
from bihm.config import Config
from bihm.data import archive
from bihm.data import load as load_dataset
from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.evaluation import Report, block_size, estimate_log_z, estimate_split
from bihm.likelihood import LogZ
from bihm.model import Params, Structure
from bihm.results import block_of, per_example_arrays
from bihm.runfiles import read_json, write_json
from bihm.trained import Trained


def final_log_z(
    config: Config, keys: Keys, structure: Structure, params: Params, report: Report
) -> LogZ | None:
    """2 log Z with the final number of samples; None for a rule without p*."""
    if config.model.name != "bihm":
        return None
    outer, inner = config.eval.final_z_outer, config.eval.z_inner
    return estimate_log_z(keys.log_z, structure, params, outer, inner, report)


@disk_refusals()
def evaluate(
    trained: Trained,
    *,
    split: str,
    K: int,
    dataset: str | None = None,
    per_example: bool = False,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Estimate a machine again, on any split of any dataset of its width.

    Writes `eval-<split>-K<K>.json` (with the dataset's name in it, when that is another one) to where the
    machine's files go, and with `per_example` a `.npz` beside it with one value per row.

    Raises:
        ConfigError: a dataset of another width, or estimates of another one in the place of these.
        DataError: data missing or damaged.
    """
    config, structure, params, _ = trained
    rows = _rows(config, dataset, split)
    file = _file(trained, dataset, split, K)
    keys = make_keys(config.seed)
    log_z = final_log_z(config, keys, structure, params, lambda done, total: None)
    key = getattr(keys, split)
    block = block_size(min(K, config.eval.K))  # so that the run's own K gives the run's numbers
    estimates = estimate_split(key, structure, params, rows, K, block=block, report=report)
    result = block_of(estimates, K, log_z)
    write_json(file, {"dataset": _identity(config, dataset), **result})
    if per_example:
        archive.write_npz(file.with_suffix(".npz"), per_example_arrays(estimates, log_z))
    return result


def _identity(config: Config, dataset: str | None) -> str:
    """Which dataset it is: a name, or the whole path of a file."""
    if dataset in (None, config.dataset.name):
        return config.dataset.name
    return os.path.abspath(str(dataset)) if Path(str(dataset)).suffix else str(dataset)


def _file(trained: Trained, dataset: str | None, split: str, K: int) -> Path:
    """Where estimates go; not over those of another file of the same name."""
    identity = _identity(trained.config, dataset)
    other = "" if identity == trained.config.dataset.name else f"{Path(identity).stem}-"
    path = Path(f"{trained.stem}eval-{other}{split}-K{K}.json")
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        if (there := read_json(path).get("dataset", identity)) != identity:
            raise ConfigError(f"{path} holds the estimates of {there}; move it away first")
    return path


def _rows(config: Config, name: str | None, split: str) -> np.ndarray:
    """The rows to evaluate: of the run's own dataset, of another one, or of a file."""
    if name in (None, config.dataset.name):
        dataset = load_dataset(config.dataset.name, config.dataset.path)
    elif Path(name).suffix:
        dataset = load_dataset("file", name)
    else:
        dataset = load_dataset(name)
    if dataset.n_features != config.dataset.n_features:
        raise ConfigError(
            f"{dataset.name} has {dataset.n_features} features; this run's machine has "
            f"{config.dataset.n_features} visible units"
        )
    return split_rows(dataset, split)
