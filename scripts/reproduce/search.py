"""A bounded search for the settings of a recipe, which looks at valid alone and writes down all it tried.

    python scripts/reproduce/search.py FOLDER [SET ...] [--jobs N] [--no-runs]

What is tried stands in `searches.json` beside this file: for each set the words that all its runs share and
a list of settings, each a list of more words for bihm-train; `score` is the number that chooses, log_p
where nothing else is said. Every run has seed 0 and goes to FOLDER/SET/SETTING; finished ones are not done
again, interrupted ones go on. The record goes to `configs/experiment/searches/SET.json`: the estimate of
every setting on valid with its standard error, best first; what it said before of runs that FOLDER lacks
stays in it. RESULTS.md has all records in one table, those by a density (the Parzen estimate of target
propagation) in another, between its markers. Test rows are estimated by every run of bihm-train; nothing
here reads those numbers.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Any

from jobs import RESULTS, ROOT, Job, Runner, document, line, made_by, recorded, replace

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
    cheaper = CHEAPER if score_of(plan) == "log_p" else ()
    return [
        Job(
            (*plan["words"], *setting, *cheaper, "seed=0"),
            folder / name / (slug(setting) or "as-it-is"),
        )
        for setting in plan["settings"]
    ]


def score_of(plan: dict[str, Any]) -> str:
    """By which number of valid a plan or its record compares settings."""
    return str(plan.get("score", "log_p"))


def record(
    folder: Path, name: str, plan: dict[str, Any], before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What was tried and what it gave on valid, best first; then what broke, and what was not run.

    Of a setting whose run is not in the folder stays what an earlier record says, made with the same words.
    """
    tried, broke = [], []
    score = score_of(plan)
    known = before if before and before["words"] == plan["words"] else {}
    for setting, job in zip(plan["settings"], jobs_of(folder, name, plan), strict=True):
        if reason := broken(job.directory):
            broke.append({"setting": setting, "reason": reason})
            continue
        if not job.finished:
            tried += [entry for entry in known.get("tried", []) if entry["setting"] == setting]
            broke += [entry for entry in known.get("broke", []) if entry["setting"] == setting]
            continue
        results = read_json(job.directory / "results.json")
        train, valid = results["train"], results["valid"]
        ess = {"ess_p": round(valid["ess_p"], 4)} if "ess_p" in valid else {}
        tried.append(
            {
                "setting": setting,
                f"valid_{score}": round(valid[score]["mean"], 4),
                "sem": round(valid[score]["sem"], 4),
                **ess,
                "best_epoch": train["best_epoch"],
                "epochs": train["epochs"],
                "steps": train["steps"],
                "seconds": train["seconds"],
                "commit": made_by(job.directory)["commit"],
            }
        )
    tried.sort(key=lambda entry: -entry[f"valid_{score}"])
    head = {"set": name, "words": plan["words"], "seed": 0, "score": score, "split": "valid"}
    if score == "log_p":
        head["K"] = FINAL_K
    done = [entry["setting"] for entry in tried + broke]
    left = [setting for setting in plan["settings"] if setting not in done]
    return {**head, "tried": tried, "broke": broke, "not_run": left}


def shown_setting(setting: list[str]) -> str:
    """A setting in a table."""
    return f"`{' '.join(setting)}`" if setting else "as it is"


def broken(directory: Path) -> str:
    """Why the numbers of a run broke; nothing of any other, as of one that a full disk ended."""
    file = directory / "status.json"
    status = read_json(file) if file.is_file() else {}
    reason = str(status.get("reason"))
    if status.get("status") != "failed" or not reason.startswith("NumbersError: "):
        return ""
    return reason.removeprefix("NumbersError: ").partition(";")[0]


def table_of(records: list[dict[str, Any]], score: str) -> str:
    """All that was tried and compared by a score, set by set, in Markdown."""
    shown = {"log_p": ("valid -log p", "ESS of p, %"), "parzen": ("valid Parzen estimate",)}[score]
    head = ("set", "setting", *shown, "updates", "best epoch", "s", "commit")
    lines = [line(head), line(["---"] * len(head))]
    sign = -1 if score == "log_p" else 1
    for found in records:
        if score_of(found) != score:
            continue
        for entry in found["tried"]:
            ess = [f"{100 * entry['ess_p']:.1f}"] if "ess_p" in entry else []
            cells = (
                found["set"],
                shown_setting(entry["setting"]),
                f"{sign * entry[f'valid_{score}']:.2f} +- {entry['sem']:.2f}",
                *ess,
                str(entry["steps"]),
                str(entry["best_epoch"]),
                f"{entry['seconds']:.0f}",
                entry["commit"],
            )
            lines.append(line(cells))
        rest = ["-"] * (len(head) - 3)
        others = [(one["setting"], one["reason"]) for one in found.get("broke", [])]
        others += [(setting, "not run") for setting in found["not_run"]]
        for setting, why in others:
            lines.append(line([found["set"], shown_setting(setting), why, *rest]))
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
    parser.add_argument("--results", type=document, default=RESULTS)
    words = parser.parse_args()
    plans = recorded(words.plan)
    if unknown := sorted(set(words.sets) - plans.keys()):
        raise SystemExit(f"{unknown[0]!r} is none of {', '.join(plans)}")
    chosen = {name: plans[name] for name in words.sets or plans}
    jobs = [job for name, plan in chosen.items() for job in jobs_of(words.folder, name, plan)]
    failed = [] if words.no_runs else Runner(words.jobs).run(jobs)
    words.records.mkdir(exist_ok=True)
    for name, plan in chosen.items():
        file = words.records / f"{name}.json"
        found = record(words.folder, name, plan, recorded(file) if file.is_file() else None)
        write_json(file, found)
        for entry in found["tried"]:
            shown = f"{entry['valid_' + score_of(found)]:10.3f} +- {entry['sem']:.3f}"
            print(f"{name:12s} {shown}  {' '.join(entry['setting'])}")
    kept = [
        recorded(words.records / f"{name}.json")
        for name in plans
        if (words.records / f"{name}.json").is_file()
    ]
    for marker, score in (("searches", "log_p"), ("searches by density", "parzen")):
        replace(words.results, marker, table_of(kept, score))
    if failed:
        raise SystemExit(f"{len(failed)} of {len(jobs)} runs failed, see above")


if __name__ == "__main__":
    main()
