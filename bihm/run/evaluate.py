"""The numbers of a best state: at the end of its run, or again at any K and on any dataset of its width."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bihm import paths
from bihm.config import Config
from bihm.data import Dataset, archive
from bihm.data import load as load_dataset
from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.machine.family import Report, silent
from bihm.machine.rules import has_p_star
from bihm.records.results import block_of, doubts, per_example_arrays
from bihm.records.run_files import place, read_json, write_json
from bihm.run.build import fixed_rows, make_keys
from bihm.run.curve import curve
from bihm.run.given import given_block, log_p_seen, seen_pixels
from bihm.run.parzen import levels
from bihm.run.repeats import repeat, repeats_block, spread_of_rows
from bihm.run.sandwich import sandwich_block, sandwich_rows
from bihm.run.trained import TrainedMachine


@disk_refusals()
def evaluate(
    machine: TrainedMachine,
    *,
    split: str,
    K: int,
    dataset: str | None = None,
    per_example: bool = False,
    sandwich: bool = False,
    repeats: int = 1,
    given: str | None = None,
    out: str | None = None,
    show: Callable[[dict[str, Any]], None] = lambda result: None,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    wrote: Callable[[Path], None] = lambda path: None,
) -> dict[str, Any]:
    """Estimate a machine again, on any split of any dataset of its width.

    Writes `eval-<split>-K<K>.json` (with the dataset's name in it, when that is another one) to where the
    machine's files go, or to the file or folder `out`, and with `per_example` a `.npz` beside it with one
    value per row. With `sandwich` the result also has the two estimates of log p on rows that the machine
    dreamt; with `repeats` the numbers are means over so many seeds, with errors over rows and over samples.
    With the mask `given` there also is log p of the missing part given the seen part, by p. `show` is given
    the result before anything is written; `say` is told, a line each, which rows of a file these are, and
    where the estimates are not to be believed, and `wrote` each file when it is there.

    Raises:
        ConfigError: a dataset of another width, or estimates of another one in the place of these.
        DataError: data missing or damaged.
        BihmError: the folder cannot be written; that is seen before the work.
    """
    where = find_place(machine, split, dataset, out, [K], say)
    seen = None if given is None else seen_pixels(machine, given)
    repeated = repeat(machine, where.rows, K, repeats, split, report)
    result = block_of(repeated.mean, K, repeated.log_z)
    if repeats > 1:
        result |= repeats_block(repeated)
    if sandwich:
        result["sandwich"] = sandwich_block(sandwich_rows(machine, K, report=report), K)
    arrays = per_example_arrays(repeated.mean, repeated.log_z)
    if repeats > 1:
        arrays |= spread_of_rows(repeated)
    if seen is not None:
        log_p = np.asarray(repeated.mean.log_p)
        of_seen = log_p_seen(machine, where.rows, seen, K, report)
        result["given"] = {"mask": given, **given_block(log_p, of_seen, seen)}
        parts = {"log_p_missing": log_p - of_seen, "log_p_seen": of_seen}
        arrays |= {name: values.astype(np.float32) for name, values in parts.items()}
    where.leave(result, arrays if per_example else {}, show, say, wrote)
    return result


@disk_refusals()
def evaluate_curve(
    machine: TrainedMachine,
    *,
    split: str,
    Ks: list[int],
    dataset: str | None = None,
    per_example: bool = False,
    out: str | None = None,
    show: Callable[[dict[str, Any]], None] = lambda result: None,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    wrote: Callable[[Path], None] = lambda path: None,
) -> list[dict[str, Any]]:
    """The same at several ascending K in one pass: the first K of the samples of the largest one.

    Each K has its own file, and `out` is a folder. At the largest K the numbers are those of `evaluate`.
    """
    if out is not None and not os.path.isdir(paths.expand(out)):
        raise ConfigError(f"out={out} must be a folder that is there: each K has a file of its own")
    where = find_place(machine, split, dataset, out, Ks, say)
    log_z = machine.two_log_z() if has_p_star(machine.config.model.name) else None
    results = []
    for K, estimates in zip(Ks, curve(machine, where.rows, Ks, split, report), strict=True):
        results.append(block_of(estimates, K, log_z))
        arrays = per_example_arrays(estimates, log_z) if per_example else {}
        where.leave(results[-1], arrays, show, say, wrote)
    return results


@disk_refusals()
def evaluate_parzen(
    machine: TrainedMachine,
    *,
    split: str,
    samples: int,
    dataset: str | None = None,
    out: str | None = None,
    show: Callable[[dict[str, Any]], None] = lambda result: None,
    report: Report = silent,
    say: Callable[[str], None] = lambda line: None,
    wrote: Callable[[Path], None] = lambda path: None,
) -> dict[str, Any]:
    """The Parzen estimate of a split as real numbers in [0, 1]: `eval-<split>-parzen.json`.

    Arguments, files and errors are those of `evaluate`.
    """
    identity, found = find_dataset(machine.config, dataset)
    file = _file(machine, identity, f"{split}-parzen", out)
    about = tell_of_rows(identity, found, split, say)

    def rows(name: str) -> np.ndarray:
        return levels(getattr(found, name), found.grey)

    keys = make_keys(machine.config.seed)
    blocks = machine.family.densities(
        keys, machine.structure, machine.params, rows, (split,), samples, report
    )
    show(blocks[split])
    write_json(file, {**about, **blocks[split]})
    wrote(file)
    return blocks[split]


class Place(NamedTuple):
    """Rows to estimate, whose they are, and the file for each K."""

    rows: np.ndarray
    about: dict[str, str]  # what a file of estimates says of the rows
    files: dict[int, Path]

    def leave(
        self,
        result: dict[str, Any],
        arrays: dict[str, np.ndarray],
        show: Callable[[dict[str, Any]], None],
        say: Callable[[str], None],
        wrote: Callable[[Path], None],
    ) -> None:
        """Show the result for one K, say what is doubtful about it, and write its files."""
        show(result)  # whatever becomes of the files
        for doubt in doubts(result):
            say(doubt)
        file = self.files[result["K"]]
        write_json(file, {**self.about, **result})
        wrote(file)
        if arrays:
            archive.write_npz(file.with_suffix(".npz"), arrays)
            wrote(file.with_suffix(".npz"))


def find_place(
    machine: TrainedMachine,
    split: str,
    dataset: str | None,
    out: str | None,
    Ks: list[int],
    say: Callable[[str], None],
) -> Place:
    """Read the rows, and see that their files can be written, before the work."""
    identity, found = find_dataset(machine.config, dataset)
    files = {K: _file(machine, identity, f"{split}-K{K}", out) for K in Ks}
    rows = fixed_rows(machine.family, found, split)
    return Place(rows, tell_of_rows(identity, found, split, say), files)


def tell_of_rows(
    identity: str, found: Dataset, split: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Say which rows of a user's file these are, and return what a file of estimates says of them."""
    for note in found.notes:
        say(note)
    if found.cut is None:
        return {"dataset": identity}
    say(f"split={split} means {len(getattr(found, split))} of those rows")
    return {"dataset": identity, "cut": found.cut}


def find_dataset(config: Config, name: str | None) -> tuple[str, Dataset]:
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


def _file(machine: TrainedMachine, identity: str, what: str, out: str | None) -> Path:
    """Where estimates go; not over those of another file of the same name."""
    other = "" if identity == machine.config.dataset.name else f"{Path(identity).stem}-"
    path = place(out, Path(f"{machine.stem}eval-{other}{what}.json"), ".json")
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        there = read_json(path)
        if isinstance(there, dict) and there.get("dataset", identity) != identity:
            raise ConfigError(
                f"{path} holds the estimates of {there['dataset']}; move it away first"
            )
    return path
