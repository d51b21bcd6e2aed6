"""The numbers of a best state: at the end of its run, or again at any K and on any dataset of its width."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bihm.config import Config
from bihm.data import Dataset, archive
from bihm.data import load as load_dataset
from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.machine.likelihood import LogZ
from bihm.machine.machine import Params, Structure
from bihm.records.results import block_of, per_example_arrays
from bihm.records.run_files import read_json, write_json
from bihm.run.build import Keys, has_p_star, make_keys, split_rows
from bihm.run.load import Trained
from bihm.run.splits import Report, block_size, estimate_log_z, estimate_split


def final_log_z(
    config: Config, keys: Keys, structure: Structure, params: Params, report: Report
) -> LogZ | None:
    """2 log Z with the final number of samples; None for a rule without p*."""
    if not has_p_star(config):
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
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Estimate a machine again, on any split of any dataset of its width.

    Writes `eval-<split>-K<K>.json` (with the dataset's name in it, when that is another one) to where the
    machine's files go, and with `per_example` a `.npz` beside it with one value per row. `say` is told, a
    line each, which rows of a user's file these are.

    Raises:
        ConfigError: a dataset of another width, or estimates of another one in the place of these.
        DataError: data missing or damaged.
    """
    config, structure, params, _ = trained
    identity, found = _find(config, dataset)
    file, rows = _file(trained, identity, split, K), split_rows(found, split)
    for note in found.notes:
        say(note)
    if found.cut is not None:
        say(f"split={split} means {len(rows)} of those rows")
    keys = make_keys(config.seed)
    log_z = final_log_z(config, keys, structure, params, lambda done, total: None)
    key = getattr(keys, split)
    block = block_size(min(K, config.eval.K))  # so that the run's own K gives the run's numbers
    estimates = estimate_split(key, structure, params, rows, K, block=block, report=report)
    result = block_of(estimates, K, log_z)
    cut = {} if found.cut is None else {"cut": found.cut}
    write_json(file, {"dataset": identity, **cut, **result})
    if per_example:
        archive.write_npz(file.with_suffix(".npz"), per_example_arrays(estimates, log_z))
    return result


def _find(config: Config, name: str | None) -> tuple[str, Dataset]:
    """The run's own dataset, another one, or a file; and which it is: a name or a whole path."""
    own = config.dataset
    if name is None or name == own.name:
        identity, dataset = own.name, load_dataset(own.name, own.path)
    elif Path(name).suffix:
        identity, dataset = os.path.abspath(name), load_dataset("file", name)
    else:
        identity, dataset = name, load_dataset(name)
    if dataset.n_features != config.dataset.n_features:
        raise ConfigError(
            f"{dataset.name} has {dataset.n_features} features; this run's machine has "
            f"{config.dataset.n_features} visible units"
        )
    return identity, dataset


def _file(trained: Trained, identity: str, split: str, K: int) -> Path:
    """Where estimates go; not over those of another file of the same name."""
    other = "" if identity == trained.config.dataset.name else f"{Path(identity).stem}-"
    path = Path(f"{trained.stem}eval-{other}{split}-K{K}.json")
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        there = read_json(path)
        if isinstance(there, dict) and there.get("dataset", identity) != identity:
            raise ConfigError(
                f"{path} holds the estimates of {there['dataset']}; move it away first"
            )
    return path
