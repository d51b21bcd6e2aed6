"""The tables of RESULTS.md: our numbers beside the published ones, from finished runs alone."""

import statistics
from pathlib import Path
from typing import Any

import densities
import levels
from finished import Run, digits_of, first_runs, mixture_file
from jobs import among, line, of_seeds, replace

from bihm.records.run_files import read_json

HEAD = (
    *("recipe", "-log p", "-log p\\*", "published (method)", "best of any", "2 log Z [95 %]"),
    *("ESS p / p\\*, %", "K", "updates", "s", "seeds", "device", "commit"),
)


def negative(runs: list[Run], name: str) -> str:
    """-log p, over seeds."""
    pairs = [run.results["test"][name] for run in runs if name in run.results["test"]]
    if not pairs:
        return "-"
    sems = [pair["sem"] for pair in pairs]
    return of_seeds([-pair["mean"] for pair in pairs], sems, digits_of(pairs))


def two_log_z(runs: list[Run]) -> str:
    """The mean over seeds and the widest of the seeds' intervals."""
    blocks = [
        run.results["test"]["two_log_z"] for run in runs if "two_log_z" in run.results["test"]
    ]
    if not blocks:
        return "-"
    low, high = min(z["low"] for z in blocks), max(z["high"] for z in blocks)
    return f"{statistics.mean(z['mean'] for z in blocks):.3f} [{low:.3f}, {high:.3f}]"


def ess(runs: list[Run]) -> str:
    """Effective sample sizes of q, for p and for p*, in percent of K."""
    shown = []
    for name in ("ess_p", "ess_p_star"):
        values = [run.results["test"][name] for run in runs if name in run.results["test"]]
        shown.append(f"{100 * statistics.mean(values):.1f}" if values else "-")
    return " / ".join(shown)


def row_of(cell: dict[str, str], runs: list[Run]) -> list[str]:
    """One row of a table; of a cell without runs only what is published."""
    published = cell.get("published", "-")
    if "published_star" in cell:
        published += f", p\\* {cell['published_star']}"
    known = [f"{published} ({cell['method']})" if cell["method"] != "-" else "-"]
    known.append(
        f"{cell['best']} ({cell['by']})" + (f" +- {cell['noise']}" if "noise" in cell else "")
    )
    name = f"`{cell['recipe']}`"
    if not runs:
        return [name, "not run", "-", *known, *["-"] * (len(HEAD) - 5)]
    train = [run.results["train"] for run in runs]
    return [
        name,
        negative(runs, "log_p"),
        negative(runs, "log_p_star"),
        *known,
        two_log_z(runs),
        ess(runs),
        among(run.results["test"]["K"] for run in runs),
        among(t["steps"] for t in train),
        f"{statistics.mean(t['seconds'] for t in train):.0f}",
        among(run.seed for run in runs),
        among(run.results["device"] for run in runs),
        among(commit for run in runs for commit in run.commits),
    ]


def mixture_row(cell: dict[str, str], block: dict[str, Any]) -> list[str]:
    """The row of an ensemble, marked as one."""
    pair, n = block["log_p"], len(block["members"])
    digits = digits_of([pair])
    number = f"{-pair['mean']:.{digits}f} +- {pair['sem']:.{digits}f}"
    known = row_of(cell, [])[3:5]
    rest = [str(block["K"]), *["-"] * 5]
    return [f"`{cell['recipe']}`, **ensemble** of {n}", number, "-", *known, "-", "-", *rest]


def table_of(table: dict[str, Any], folders: list[Path]) -> str:
    """A table in Markdown, with the source of what is published above it."""
    of_densities = table.get("score") == "parzen"
    head, row = (densities.HEAD, densities.row_of) if of_densities else (HEAD, row_of)
    lines = [f"Published: {table['source']}.", "", line(head), line(["---"] * len(head))]
    for cell in table["cells"]:
        lines.append(line(row(cell, first_runs(folders, cell["recipe"]))))
        for folder in folders:
            if (file := mixture_file(folder, cell["recipe"])).is_file():
                lines.append(line(mixture_row(cell, read_json(file))))
                break
    return "\n".join(lines)


def write_tables(document: Path, tables: dict[str, Any], folders: list[Path]) -> list[str]:
    """Write the tables that the document has markers for; their names.

    A table of which no run is here stays as it is: its runs are elsewhere, or were.
    """
    written = [
        name
        for name, table in tables.items()
        if any(first_runs(folders, cell["recipe"]) for cell in table["cells"])
        and replace(document, name, table_of(table, folders))
    ]
    if written and replace(document, "levels", levels.table_of(tables, folders)):
        written.append("levels")
    return written
