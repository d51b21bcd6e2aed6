"""One line for each configuration of the finished runs below a folder: means over seeds +- standard error.

    python scripts/reproduce/summarise.py FOLDER [--split valid]

Configurations are told apart by the keys in which they differ, the seed aside. In nats; ESS as a part of K.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from jobs import is_finished, seeds_error

from bihm.config import Config, flatten, load
from bihm.records.run_files import read_json

COLUMNS = ("log_p", "log_p_star", "two_log_z", "ess_p", "ess_p_star")


def runs(folder: Path, split: str) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """The configuration and the estimates of every finished run."""
    found = []
    for results in sorted(folder.rglob("results.json")):
        if not is_finished(results.parent):
            continue
        block = read_json(results)[split]
        means = {name: block[name] for name in COLUMNS if name in block}
        means = {k: v["mean"] if isinstance(v, dict) else v for k, v in means.items()}
        found.append((flatten(load(results.with_name("config.yaml"))), means))
    return found


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
    found = runs(arguments.folder, arguments.split)
    keys = [
        key
        for key in flatten(Config())
        if key != "seed" and len({str(config.get(key)) for config, _ in found}) > 1
    ]
    groups: dict[tuple[str, ...], list[dict[str, float]]] = defaultdict(list)
    for config, means in found:
        groups[tuple(str(config.get(key)) for key in keys)].append(means)
    rows = [[*keys, "seeds", *COLUMNS]]
    for values, members in sorted(groups.items()):
        cells = [mean_and_sem([m[c] for m in members if c in m]) for c in COLUMNS]
        rows.append([*values, str(len(members)), *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
