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
run is said to have none; a table without any stays as it is. `levels` says set by set what is better than
published, level or behind.
"""

import argparse
import itertools
import os
import shutil
import sys
from pathlib import Path

from finished import mixture_file
from jobs import MADE_BY, RESULTS, ROOT, Job, Runner, document, is_finished, recorded
from tables import write_tables

from bihm.cli import evaluate
from bihm.records.run_files import read_json

PUBLISHED = Path(__file__).with_name("published.json")
KEPT = ROOT / "outputs" / "published"  # runs that git keeps: what FOLDER lacks is taken from there


def mix(folder: Path, recipe: str, seeds: list[int], K: int) -> None:
    """Evaluate the seeds of a recipe as one model, once; other seeds or another K are another model."""
    runs = [folder / f"{recipe}-seed{seed}" for seed in seeds]
    file = mixture_file(folder, recipe)
    if len(runs) < 2 or not all(map(is_finished, runs)) or _is_mixed(file, runs, K):
        return
    fresh = file.with_suffix(".new.json")  # until it is whole, the one before stays
    words = [f"K={K}", f"run={','.join(map(str, runs))}", f"out={fresh}"]
    evaluate.main(words)
    fresh.replace(file)


def _is_mixed(file: Path, runs: list[Path], K: int) -> bool:
    """Whether a file holds the estimate of these runs as one model."""
    if not file.is_file():
        return False
    found = read_json(file)
    names = {Path(run).name for run in found["mixture_of"]}
    return found["K"] == K and names == {run.name for run in runs}


def publish(run: Path, kept: Path = KEPT, *, weights: bool = True) -> None:
    """Put what makes a run's numbers again where git keeps it: a run directory without checkpoints.

    Without its weights a run is only where the tables read its numbers.
    """
    from bihm.run.load import export

    into = kept / run.name
    into.mkdir(parents=True, exist_ok=True)
    noted = [MADE_BY] if (run / MADE_BY).is_file() else []  # not of a run that no script began
    for name in ("config.yaml", "results.json", "status.json", *noted):
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
    parser.add_argument("--results", type=document, default=RESULTS)
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
