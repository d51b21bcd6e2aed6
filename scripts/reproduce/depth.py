"""How deep should a machine be? The three rules from 1 to 12 layers on two datasets, three seeds each.

    python scripts/reproduce/depth.py FOLDER [--no-runs]

All runs are one multirun of bihm-train, which this script calls and which goes on where it was (`command`
below, written out). Their rate and penalty are the same for all depths and were chosen on valid. Then, from
the finished runs below FOLDER alone, the table between the markers of RESULTS.md and the figure
`pictures/depth.png` are made anew: test -log p (nats) and effective sample sizes, means over the seeds.
"""

import argparse
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
from jobs import RESULTS, ROOT, document, is_finished, line, replace, seeds_error
from matplotlib.figure import Figure
from summarise import mean_and_sem

from bihm.config import load
from bihm.records.run_files import read_json

DATASETS, RULES, DEPTHS = (
    ("digits", "mushrooms"),
    ("bihm", "rws", "wake_sleep"),
    (1, 2, 3, 5, 8, 12),
)
SHARED = (
    *("seed=0,1,2", "batch_size=25", "epochs=300", "stop.patience=null"),
    *("optim.lr=1e-2", "optim.schedule=cosine", "optim.l1=4e-5"),
)
FIGURE = Path(__file__).with_name("pictures") / "depth.png"
INK, COLOURS = "#333333", {"bihm": "#1f6fb4", "rws": "#d1495b", "wake_sleep": "#7a7a7a"}
Runs = dict[tuple[str, str, int], list[dict[str, Any]]]


def command(folder: Path) -> list[str]:
    """The words of the multirun."""
    swept = {"dataset": DATASETS, "model": RULES, "depth": DEPTHS}
    words = [f"{key}={','.join(map(str, values))}" for key, values in swept.items()]
    return ["bihm-train", "-m", *words, *SHARED, f"hydra.sweep.dir={folder.resolve()}"]


def read(folder: Path) -> Runs:
    """What finished runs found on test, by dataset, rule and depth; several seeds of each."""
    found: Runs = defaultdict(list)
    for file in sorted(folder.rglob("results.json")):
        if is_finished(file.parent):
            config = load(file.with_name("config.yaml"))
            key = config.dataset.name, config.model.name, config.depth
            found[key].append(read_json(file)["test"])
    return dict(found)


def losses(runs: list[dict[str, Any]], name: str = "log_p") -> list[float]:
    """-log p of each seed, nats a row."""
    return [-run[name]["mean"] for run in runs if name in run]


def percent(runs: list[dict[str, Any]], name: str) -> str:
    """An effective sample size, in percent of K."""
    values = [100 * run[name] for run in runs if name in run]
    return f"{statistics.mean(values):.1f}" if values else "-"


def table_of(found: Runs) -> str:
    """Every dataset and depth in a line, in Markdown."""
    head = ["set", "depth", "`bihm`", "`bihm`, p\\*", "`rws`", "`wake_sleep`"]
    head += ["ESS % `bihm`: p", "p\\*", "`rws`", "`wake_sleep`", "seeds"]
    lines = [line(head), line(["---"] * len(head))]
    for dataset in DATASETS:
        for depth in DEPTHS:
            bihm, rws, sleep = (found.get((dataset, rule, depth), []) for rule in RULES)
            cells = [mean_and_sem(losses(bihm), 2), mean_and_sem(losses(bihm, "log_p_star"), 2)]
            cells += [mean_and_sem(losses(rws), 2), mean_and_sem(losses(sleep), 2)]
            cells += [percent(bihm, "ess_p"), percent(bihm, "ess_p_star")]
            cells += [percent(rws, "ess_p"), percent(sleep, "ess_p")]
            counts = [len(runs) for runs in (bihm, rws, sleep)]
            seeds = dict.fromkeys([min(counts), max(counts)])
            lines.append(line([dataset, str(depth), *cells, " to ".join(map(str, seeds))]))
    return "\n".join(lines)


def draw(found: Runs, file: Path) -> None:
    """-log p against depth, a panel for each dataset, with the standard error over seeds."""
    with matplotlib.rc_context({"font.size": 10, "text.color": INK, "axes.labelcolor": INK}):
        figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
        panels = figure.subplots(1, len(DATASETS), squeeze=False)[0]
        for dataset, axes in zip(DATASETS, panels, strict=True):
            for rule in RULES:
                depths = [d for d in DEPTHS if (dataset, rule, d) in found]
                if not depths:
                    continue
                values = [losses(found[dataset, rule, d]) for d in depths]
                axes.errorbar(
                    depths,
                    [statistics.mean(one) for one in values],
                    [seeds_error(one) for one in values],
                    color=COLOURS[rule], marker="o", markersize=4, capsize=3, label=rule,
                )  # fmt: skip
            axes.set_title(dataset)
            axes.set_xscale("log")
            axes.set_xticks(DEPTHS, map(str, DEPTHS))
            axes.minorticks_off()
            axes.set_xlabel("latent layers")
            axes.set_ylabel("test -log p, nats")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.3)
        panels[0].legend(frameon=False)
        figure.savefig(file, metadata={"Software": None})


def main() -> None:
    """Run, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-runs", action="store_true", help="only write what there is")
    parser.add_argument("--results", type=document, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    words = parser.parse_args()
    if "<!-- depth -->" not in words.results.read_text(encoding="utf-8"):
        raise SystemExit(f"{words.results}: has no marker <!-- depth -->")
    if not words.no_runs:
        told = [sys.executable, "-m", "bihm.cli.train", *command(words.folder)[1:]]
        if code := subprocess.run(told, cwd=ROOT, check=False).returncode:
            sys.exit(code)
    found = read(words.folder)
    if not found:
        raise SystemExit(f"{words.folder}: no finished run below it")
    draw(found, words.figure)
    replace(words.results, "depth", table_of(found))


if __name__ == "__main__":
    main()
