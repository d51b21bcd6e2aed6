"""A bounded search for the settings of a recipe, which looks at valid alone and writes down all it tried.

    python scripts/reproduce/search.py FOLDER [SET ...] [--jobs N] [--no-runs]

What is tried stands in `searches.json` beside this file: for each set the words that all its runs share and
a list of settings, each a list of more words for bihm-train. Every run has seed 0 and goes to
FOLDER/SET/SETTING; finished ones are not done again, interrupted ones go on. The record goes to
`configs/experiment/searches/SET.json`: the estimate of every setting on valid with its standard error, best
first; RESULTS.md has them all in one table, between its markers. Test rows are estimated by every run of
bihm-train; nothing here reads those numbers.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

from jobs import RESULTS, ROOT, Job, Runner, is_finished, line, made_by, recorded, replace

from bihm.records.run_files import read_json, write_json

PLAN = Path(__file__).with_name("searches.json")
RECORDS = ROOT / "configs" / "experiment" / "searches"
FINAL_K = 100  # of the estimates that choose
CHEAPER = (f"eval.final_K={FINAL_K}", "eval.final_z_outer=10000")


def slug(setting: list[str]) -> str:
    """The name of a setting's folder."""
    return re.sub(r"[^A-Za-z0-9.,=+-]+", "-", ",".join(setting)).strip("-")


def jobs_of(folder: Path, name: str, plan: dict[str, Any]) -> list[Job]:
    """The runs of one search, in the order of the plan."""
    return [
        Job(
            (*plan["words"], *setting, *CHEAPER, "seed=0"),
            folder / name / slug(setting),
        )
        for setting in plan["settings"]
    ]


def record(folder: Path, name: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What was tried and what it gave on valid, best first; what has not been run stands at the end."""
    tried, left = [], []
    for setting, job in zip(plan["settings"], jobs_of(folder, name, plan), strict=True):
        if not is_finished(job.directory):
            left.append(setting)
            continue
        results = read_json(job.directory / "results.json")
        train, valid = results["train"], results["valid"]
        tried.append(
            {
                "setting": setting,
                "valid_log_p": round(valid["log_p"]["mean"], 4),
                "sem": round(valid["log_p"]["sem"], 4),
                "ess_p": round(valid["ess_p"], 4),
                "best_epoch": train["best_epoch"],
                "epochs": train["epochs"],
                "steps": train["steps"],
                "seconds": train["seconds"],
                "commit": made_by(job.directory)["commit"],
            }
        )
    tried.sort(key=lambda entry: -entry["valid_log_p"])
    head = {"set": name, "words": plan["words"], "seed": 0, "K": FINAL_K, "split": "valid"}
    return {**head, "tried": tried, "not_run": left}


def table_of(records: list[dict[str, Any]]) -> str:
    """All that was tried, set by set, in Markdown."""
    head = ("set", "setting", "valid -log p", "ESS of p, %", "updates", "best epoch", "s", "commit")
    lines = [line(head), line(["---"] * len(head))]
    for found in records:
        for entry in found["tried"]:
            cells = (
                found["set"],
                f"`{' '.join(entry['setting'])}`",
                f"{-entry['valid_log_p']:.2f} +- {entry['sem']:.2f}",
                f"{100 * entry['ess_p']:.1f}",
                str(entry["steps"]),
                str(entry["best_epoch"]),
                f"{entry['seconds']:.0f}",
                entry["commit"],
            )
            lines.append(line(cells))
        for setting in found["not_run"]:
            rest = ["-"] * (len(head) - 3)
            lines.append(line([found["set"], f"`{' '.join(setting)}`", "not run", *rest]))
    return "\n".join(lines)


def main() -> None:
    """Run, then write the records."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-runs", action="store_true", help="only write what there is")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    words = parser.parse_args()
    plans = recorded(words.plan)
    if unknown := sorted(set(words.sets) - plans.keys()):
        raise SystemExit(f"{unknown[0]!r} is none of {', '.join(plans)}")
    chosen = {name: plans[name] for name in words.sets or plans}
    if not words.no_runs:
        jobs = [j for name, plan in chosen.items() for j in jobs_of(words.folder, name, plan)]
        Runner(words.jobs).run(jobs)
    words.records.mkdir(exist_ok=True)
    for name, plan in chosen.items():
        found = record(words.folder, name, plan)
        write_json(words.records / f"{name}.json", found)
        for entry in found["tried"]:
            shown = f"{entry['valid_log_p']:10.3f} +- {entry['sem']:.3f}"
            print(f"{name:12s} {shown}  {' '.join(entry['setting'])}")
    kept = [
        recorded(words.records / f"{name}.json")
        for name in plans
        if (words.records / f"{name}.json").is_file()
    ]
    replace(words.results, "searches", table_of(kept))


if __name__ == "__main__":
    main()
