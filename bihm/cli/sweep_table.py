"""The tables at the end of a sweep: one line a job, and one a setting, averaged over its seeds."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bihm.config import flatten, load
from bihm.errors import BihmError
from bihm.records.run_files import read_json
from bihm.records.seeds import Setting, differing, mean_and_sd, settings, write_means

COLUMNS = ("log_p", "log_p_star", "two_log_z")


def lines(jobs: list[Path], folder: Path) -> list[str]:
    """The keys in which the finished jobs differ with their test estimates, and the means over seeds.

    Where there are several seeds of a setting, TensorBoard gets their mean curves as well.
    """
    configs = {job: _flat_config(job) for job in jobs}
    tests = {job: _test_block(job) for job in jobs}
    columns = _columns(tests.values())
    keys = differing(configs.values())
    rows = [["job", *keys, *columns]]
    for job in jobs:
        numbers = [_number(tests[job].get(name)) for name in columns]
        label = os.path.relpath(job, folder)
        rows.append([label, *(str(configs[job].get(key)) for key in keys), *numbers])
    groups = settings(configs)
    if all(len(one.jobs) == 1 for one in groups):
        return _aligned(rows)
    with contextlib.suppress(OSError):  # a full disk: the table is there all the same
        write_means(groups, folder)
    return [*_aligned(rows), *_seed_lines(groups, tests, columns)]


def _seed_lines(
    groups: Sequence[Setting], tests: Mapping[Path, Mapping[str, Any]], columns: Sequence[str]
) -> list[str]:
    """One line a setting: how many seeds, mean and standard deviation over them."""
    rows = [[*groups[0].values, "seeds", *columns]]
    for one in groups:
        cells = []
        for name in columns:
            found = [tests[job][name]["mean"] for job in one.jobs if tests[job].get(name)]
            cells.append(_spread(found))
        rows.append([*one.values.values(), str(len(one.jobs)), *cells])
    return ["mean over seeds (sd: standard deviation over them)", *_aligned(rows)]


def _spread(values: Sequence[float]) -> str:
    from bihm.records.results import number  # jax takes a second to import: not at the start

    if not values:
        return "-"
    mean, sd = mean_and_sd(values)
    return f"{number(mean)} sd " + ("?" if len(values) == 1 else number(sd))


def _columns(tests: Any) -> list[str]:
    from bihm.records.results import DENSITIES  # jax takes a second to import: not at the start

    dense = [name for name in DENSITIES if any(name in test for test in tests)]
    bits = any("log_p" in test for test in tests) or not dense
    return [*(COLUMNS if bits else ()), *dense]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _test_block(job: Path) -> dict[str, Any]:
    try:
        test = read_json(job / "results.json").get("test", {})
    except (BihmError, AttributeError):
        return {}
    return test if isinstance(test, dict) else {}


def _flat_config(job: Path) -> dict[str, Any]:
    try:
        return flatten(load(job / "config.yaml"))
    except BihmError:
        return {}


def _number(estimate: dict[str, float] | None) -> str:
    from bihm.records.results import plus_minus  # jax takes a second to import: not at the start

    return "-" if estimate is None else plus_minus(estimate)
