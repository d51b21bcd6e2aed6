"""The numbers of RESULTS.md, made again: runs recipes with several seeds and writes the tables.

    python scripts/reproduce/reproduce.py FOLDER [RECIPE ...] [--seeds 0,1,2] [--jobs N] [--no-runs]

A run goes to FOLDER/RECIPE-seedN. A finished one is not done again; an interrupted one (Ctrl-C, SIGTERM,
a failure of power) goes on where it was, by the same command. Without names it is every recipe of
`published.json` beside this file, which holds the published number of the same method and the best of any,
with their sources. With `--mixtures` the seeds of each recipe are also evaluated as one model, weights
fitted on valid: an ensemble. With `--publish` finished runs are put where git keeps them: weights,
configuration and results, for `bihm-eval run=outputs/published/RECIPE-seedN`; with `--weights-of 0` the
weights of that seed alone, as git keeps no more than 20 MB.

Then the tables between the markers of RESULTS.md are written anew, from the `results.json` and
`config.yaml` of finished runs alone, those of FOLDER first, then those that git keeps. A recipe without a
run is said to have none; a table without any stays as it is.
"""

import argparse
import itertools
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import densities
from jobs import (
    MADE_BY,
    RESULTS,
    ROOT,
    Job,
    Runner,
    among,
    is_finished,
    line,
    made_by,
    of_seeds,
    recorded,
    replace,
)

from bihm.cli import evaluate
from bihm.config import load
from bihm.records.run_files import read_json

PUBLISHED = Path(__file__).with_name("published.json")
KEPT = ROOT / "outputs" / "published"  # runs that git keeps: what FOLDER lacks is taken from there
HEAD = (
    *("recipe", "-log p", "-log p\\*", "published (method)", "best of any", "2 log Z [95 %]"),
    *("ESS p / p\\*, %", "K", "updates", "s", "seeds", "device", "commit"),
)


class Run(NamedTuple):
    """A finished run: its results, its seed, and the commit that made it."""

    results: dict[str, Any]
    seed: int
    commit: str


def finished_runs(folder: Path, recipe: str) -> list[Run]:
    """The finished runs of a recipe, by seed."""
    found = [
        Run(
            read_json(directory / "results.json"),
            load(directory / "config.yaml").seed,
            str(made_by(directory)["commit"]),
        )
        for directory in folder.glob(f"{recipe}-seed*")
        if is_finished(directory)
    ]
    return sorted(found, key=lambda run: run.seed)


def negative(runs: list[Run], name: str) -> str:
    """-log p, over seeds."""
    pairs = [run.results["test"][name] for run in runs if name in run.results["test"]]
    if not pairs:
        return "-"
    sems = [pair["sem"] for pair in pairs]
    digits = 3 if statistics.mean(sems) < 0.01 else 2
    return of_seeds([-pair["mean"] for pair in pairs], sems, digits)


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
        among(run.commit for run in runs),
    ]


def mixture_row(cell: dict[str, str], block: dict[str, Any]) -> list[str]:
    """The row of an ensemble, marked as one."""
    pair, n = block["log_p"], len(block["members"])
    digits = 3 if pair["sem"] < 0.01 else 2
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
        found = [finished_runs(folder, cell["recipe"]) for folder in folders]
        lines.append(line(row(cell, next(filter(None, found), []))))
        for folder in folders:
            if (file := mixture_file(folder, cell["recipe"])).is_file():
                lines.append(line(mixture_row(cell, read_json(file))))
                break
    return "\n".join(lines)


def write_tables(document: Path, tables: dict[str, Any], folders: list[Path]) -> list[str]:
    """Write the tables that the document has markers for; their names.

    A table of which no run is here stays as it is: its runs are elsewhere, or were.
    """
    return [
        name
        for name, table in tables.items()
        if any(finished_runs(folder, c["recipe"]) for folder in folders for c in table["cells"])
        and replace(document, name, table_of(table, folders))
    ]


def mixture_file(folder: Path, recipe: str) -> Path:
    """Where the estimate of a recipe's seeds as one model goes."""
    return folder / f"{recipe}-mixture.json"


def mix(folder: Path, recipe: str, seeds: list[int], K: int) -> None:
    """Evaluate the seeds of a recipe as one model, once."""
    runs = [folder / f"{recipe}-seed{seed}" for seed in seeds]
    file = mixture_file(folder, recipe)
    if file.is_file() or len(runs) < 2 or not all(map(is_finished, runs)):
        return
    words = [f"K={K}", f"run={','.join(map(str, runs))}", f"out={file}"]
    evaluate.main(words)


def publish(run: Path, kept: Path = KEPT, *, weights: bool = True) -> None:
    """Put what makes a run's numbers again where git keeps it: a run directory without checkpoints.

    Without its weights a run is only where the tables read its numbers.
    """
    from bihm.run.load import export

    into = kept / run.name
    into.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "results.json", "status.json", MADE_BY):
        shutil.copyfile(run / name, into / name)
    (into / ".checkpointed").touch()  # so that bihm-train does not take it for a run without a past
    if weights:
        export(run, str(into / "weights.safetensors"))


def main() -> None:
    """Run what is asked for, then write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    parser.add_argument("--words", default="", help="more words for every run, with spaces between")
    parser.add_argument("--mixtures", action="store_true")
    parser.add_argument("--mixture-K", type=int, default=1000)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--weights-of", help="seeds whose weights are published; all, by default")
    parser.add_argument("--no-runs", action="store_true", help="only write the tables")
    parser.add_argument("--published", type=Path, default=PUBLISHED)
    parser.add_argument("--results", type=Path, default=RESULTS)
    words = parser.parse_args()
    tables = recorded(words.published)
    recipes = words.recipes or [c["recipe"] for t in tables.values() for c in t["cells"]]
    seeds = [int(seed) for seed in words.seeds.split(",")]
    failed = []
    if not words.no_runs:
        failed = Runner(words.jobs).run(
            Job(
                (f"experiment={recipe}", f"seed={seed}", *words.words.split()),
                words.folder / f"{recipe}-seed{seed}",
            )
            for seed in seeds  # the first seed of all comes before the second of any
            for recipe in recipes
        )
    for recipe in recipes if words.mixtures else []:
        mix(words.folder, recipe, seeds, words.mixture_K)
    heavy = seeds if words.weights_of is None else [int(s) for s in words.weights_of.split(",")]
    for recipe, seed in itertools.product(recipes if words.publish else [], seeds):
        run = words.folder / f"{recipe}-seed{seed}"
        if is_finished(run):
            publish(run, weights=seed in heavy)
    written = write_tables(words.results, tables, [words.folder, KEPT])
    print(f"{words.results}: {', '.join(written) or 'no markers of any table'}")
    if failed:
        sys.exit(f"{len(failed)} runs failed: {', '.join(str(job.directory) for job in failed)}")


if __name__ == "__main__":
    main()
