"""One line for each configuration of the finished runs below a folder: means over seeds +- standard error.

    python scripts/reproduce/summarise.py FOLDER [--split valid]

Configurations are told apart by the keys in which they differ, the seed aside. In nats; ESS as a part of K.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from jobs import is_finished, seeds_error

from bihm.config import flatten, load
from bihm.records.run_files import read_json
from bihm.records.seeds import settings

COLUMNS = ("log_p", "log_p_star", "two_log_z", "ess_p", "ess_p_star")


def runs(
    folder: Path, split: str
) -> tuple[dict[Path, dict[str, Any]], dict[Path, dict[str, float]]]:
    """The configuration of every finished run, and its estimates."""
    configs, estimates = {}, {}
    for results in sorted(folder.rglob("results.json")):
        if not is_finished(results.parent):
            continue
        block = read_json(results)[split]
        means = {name: block[name] for name in COLUMNS if name in block}
        means = {k: v["mean"] if isinstance(v, dict) else v for k, v in means.items()}
        configs[results.parent] = flatten(load(results.with_name("config.yaml")))
        estimates[results.parent] = means
    return configs, estimates


def mean_and_sem(values: list[float], digits: int = 3) -> str:
    """Over seeds; one seed has no error."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} +- {seeds_error(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="valid", choices=("valid", "test"))
    arguments = parser.parse_args()
    configs, estimates = runs(arguments.folder, arguments.split)
    found = sorted(settings(configs), key=lambda one: tuple(one.values.values()))
    rows = [[*(found[0].values if found else ()), "seeds", *COLUMNS]]
    for one in found:
        members = [estimates[job] for job in one.jobs]
        cells = [mean_and_sem([m[c] for m in members if c in m]) for c in COLUMNS]
        rows.append([*one.values.values(), str(len(members)), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
