"""The numbers of a best state: at the end of its run, or again at any K and on any dataset of its width."""

import os
from typing import Any

import numpy as np

from bihm import paths
from bihm.errors import ConfigError, disk_refusals
from bihm.machine.likelihood import Estimates
from bihm.machine.machine import bind
from bihm.machine.missing import Seen, check_factorised
from bihm.machine.rules import has_p_star
from bihm.records.results import arrays_of, block_of, per_example_arrays
from bihm.records.run_files import write_json
from bihm.run.build import make_keys
from bihm.run.estimates.curve import curve
from bihm.run.estimates.estimate_files import (
    Extras,
    RowsAndFiles,
    file_of,
    find_dataset,
    parameters_of,
    rows_and_files,
    tell_of_rows,
)
from bihm.run.estimates.given import (
    as_estimates,
    given_block,
    given_of,
    samples_seen,
    seen_estimates,
)
from bihm.run.estimates.listener import NOBODY, Listener
from bihm.run.estimates.parzen import split_density
from bihm.run.estimates.repeats import repeat, repeats_block, spread_of_rows
from bihm.run.estimates.sandwich import sandwich_block, sandwich_rows
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
    count: int | None = None,
    out: str | None = None,
    to: Listener = NOBODY,
) -> dict[str, Any]:
    """Estimate a machine again, on any split of any dataset of its width.

    Writes `eval-<split>-K<K>.json` (with the dataset's name in it, when that is another one, and with what
    else was asked for, as `-repeats5-sandwich`) to where the machine's files go, or to the file or folder
    `out`, and with `per_example` a `.npz` beside it with one value per row. With `sandwich` the result has
    the two estimates of log p on rows that the machine dreamt, too; with `repeats` the numbers are means
    over so many seeds, with errors over rows and over samples. With the mask `given` there also is log p of
    the missing part given the seen part, for BiHM by p*, too. Of a user's rows that lack values the numbers
    are those of the seen part of each. With `count` only so many rows are estimated, drawn at random,
    always the same ones.

    Raises:
        ConfigError: a dataset of another width, estimates of another one in the place of these, rows that
            lack values where whole ones are needed, or not as many as asked for.
        DataError: data missing or damaged.
        BihmError: the folder cannot be written; that is seen before the work.
    """
    asked = Extras(repeats, sandwich, given, count)
    if given is not None:
        check_factorised(bind(machine.structure, machine.params))
    where = rows_and_files(machine, split, dataset, out, [K], to, asked)
    if where.seen is None:
        result, arrays = _of_whole_rows(machine, where, split, K, asked, to)
    else:
        others = {"repeats": repeats > 1, "given": given is not None}
        where.need_whole_rows([name for name, wanted in others.items() if wanted])
        result, arrays = _of_seen(machine, where, K, to)
    if sandwich:
        result["sandwich"] = sandwich_block(sandwich_rows(machine, K, report=to.report), K)
    where.leave(result, arrays if per_example else {}, to)
    return result


def _of_whole_rows(
    machine: TrainedMachine, where: RowsAndFiles, split: str, K: int, asked: Extras, to: Listener
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Block and arrays of rows that lack nothing."""
    seen = None if asked.given is None else machine.observed(asked.given, 0, "given")
    repeated = repeat(machine, where.rows, K, asked.repeats, split, to.report)
    result = block_of(repeated.mean, K, repeated.log_z)
    arrays = per_example_arrays(repeated.mean, repeated.log_z)
    if asked.repeats > 1:
        result |= repeats_block(repeated)
        arrays |= spread_of_rows(repeated)
    if seen is not None:
        found = given_of(repeated.mean, _seen_of(machine, where.rows, seen, K, to))
        result["given"] = {"mask": asked.given, **given_block(found, seen, K)}
        arrays |= arrays_of(found._asdict())
    return result, arrays


def _seen_of(
    machine: TrainedMachine, rows: np.ndarray, seen: np.ndarray, K: int, to: Listener
) -> Seen:
    parts = (machine.config, machine.structure, machine.params)
    return seen_estimates(*parts, rows, seen, K, report=to.report)


def _of_seen(
    machine: TrainedMachine, where: RowsAndFiles, K: int, to: Listener
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Block and arrays of rows that lack values."""
    assert where.seen is not None
    found = as_estimates(_seen_of(machine, where.rows, where.seen, K, to))
    log_z = machine.two_log_z(report=to.report) if has_p_star(machine.config.model.name) else None
    some = where.seen.any(axis=1)
    found_of_some = {n: v[some] for n, v in found._asdict().items() if v is not None}
    result = block_of(Estimates(**found_of_some), K, log_z)
    result |= {"missing_values": int((~where.seen).sum()), "samples_seen": samples_seen(K)}
    seen = where.seen.sum(axis=1, dtype=np.int32)
    return result, per_example_arrays(found, log_z) | {"seen": seen}


@disk_refusals()
def evaluate_curve(
    machine: TrainedMachine,
    *,
    split: str,
    Ks: list[int],
    dataset: str | None = None,
    per_example: bool = False,
    count: int | None = None,
    out: str | None = None,
    to: Listener = NOBODY,
) -> list[dict[str, Any]]:
    """The same at several ascending K in one pass: the first K of the samples of the largest one.

    Each K has its own file, and `out` is a folder. At the largest K the numbers are those of `evaluate`.
    """
    if out is not None and not os.path.isdir(paths.expand(out)):
        raise ConfigError(f"out={out} must be a folder that is there: each K has a file of its own")
    where = rows_and_files(machine, split, dataset, out, Ks, to, Extras(rows=count))
    where.need_whole_rows(["several K"])
    log_z = machine.two_log_z(report=to.report) if has_p_star(machine.config.model.name) else None
    results = []
    for K, estimates in zip(Ks, curve(machine, where.rows, Ks, split, to.report), strict=True):
        results.append(block_of(estimates, K, log_z))
        arrays = per_example_arrays(estimates, log_z) if per_example else {}
        where.leave(results[-1], arrays, to)
    return results


@disk_refusals()
def evaluate_parzen(
    machine: TrainedMachine,
    *,
    split: str,
    samples: int,
    dataset: str | None = None,
    out: str | None = None,
    to: Listener = NOBODY,
) -> dict[str, Any]:
    """The Parzen estimate of a split as real numbers in [0, 1]: `eval-<split>-parzen<samples>.json`.

    Arguments, files and errors are those of `evaluate`.
    """
    identity, found = find_dataset(machine, dataset)
    file = file_of(machine, identity, f"{split}-parzen{samples}", out)
    about = tell_of_rows(identity, found, split, to) | {"parameters": parameters_of(machine)}
    parts = (machine.structure, machine.params, found, split, samples, to.report)
    block = split_density(machine.family, make_keys(machine.config.seed), *parts)
    to.show(block)
    write_json(file, {**about, **block})
    to.wrote(file)
    return block
