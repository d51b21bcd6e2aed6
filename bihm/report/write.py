"""From run directories to one file of HTML: what `bihm-report` does."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bihm.errors import disk_refusals
from bihm.records.run_files import place, write_text
from bihm.report import runs as of_runs
from bihm.report.files import RunFiles, read_runs, read_sweep
from bihm.report.learning import learning_section
from bihm.report.machine import Bounds, Details
from bihm.report.page import Page, Part, Section, render
from bihm.report.settings import by_dataset, score_of, settings
from bihm.report.sweep import effects_section, runs_section
from bihm.run.estimates.listener import nobody

NAME = "report.html"
MOST_REASONS = 20  # of runs that did not finish, on the page of a sweep


@disk_refusals()
def write_report(
    runs: Sequence[Path],
    sweep: Path | None = None,
    out: str | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008  # a tuple
    say: Callable[[str], None] = nobody,
    note: Callable[[str], None] = nobody,
) -> Path:
    """Write a page about runs, or about all runs of a sweep's folder, and return where it is.

    The page is `report.html` in the sweep's folder or the first run, or the file or folder `out`. Runs are
    only read. Of a sweep the run of each dataset with the best score on valid is shown whole, otherwise all
    runs are. `say` is told what is under way, and `note` what had to be left out.

    Raises:
        ConfigError: there is no run, or no place for the page.
        OSError: the disk refuses.
    """
    found = read_runs(runs) if sweep is None else read_sweep(sweep)
    default = (found[0].directory if sweep is None else sweep) / NAME
    path = place(out, default, ".html", replaces=True)  # a page is made again from its runs
    score = score_of(found)
    parts = [_together(found, score)] if len(found) > 1 else []
    whole = [(run, "") for run in found] if sweep is None else _best(found)
    for run, what in whole:
        details = Details(run, bounds, say)
        for line in details.notes:
            note(f"{run.label}: {line}")
        parts.append(_alone(run, details, what))
    write_text(path, render(_page(found, parts, sweep is not None)))
    return path


def _page(runs: Sequence[RunFiles], parts: Sequence[Part], sweep: bool) -> Page:
    if len(runs) > 1:
        names = list(dict.fromkeys(map(of_runs.title, runs)))
        what = "sweep" if sweep else "report"
        return Page(f"A {what} of {len(runs)} runs", ", ".join(names[:6]), parts)
    (part,) = parts
    alone = part._replace(title="", status="", lead="")
    lead = " · ".join(filter(None, [part.lead, runs[0].label]))
    return Page(of_runs.title(runs[0]), lead, [alone], part.status)


def _best(runs: Sequence[RunFiles]) -> list[tuple[RunFiles, str]]:
    """Of each dataset the run with the best score on valid, or its first; and what to say of it."""
    groups, best = by_dataset(runs), []
    for name, some in groups.items():
        score = score_of(some)
        scores = [run.number(score) for run in some]
        known = [value for value in scores if value is not None]
        run = some[scores.index(max(known))] if known else some[0]
        best.append((run, f"The best on valid{f' of {name}' if len(groups) > 1 else ''}: "))
    return best


def _together(runs: Sequence[RunFiles], score: str) -> Part:
    groups = settings(runs)
    datasets = by_dataset(runs)
    sections: list[Section] = [runs_section(runs, score)]
    for name, some in datasets.items():
        sections += effects_section(
            some, score_of(some), f" on {name}" if len(datasets) > 1 else ""
        )
    done = sum(run.row.get("status") == "finished" for run in runs)
    lead = f"{done} of {len(runs)} runs have finished; {len(groups)} settings."
    notes = [f"{run.label}: {reason}" for run in runs if (reason := run.text("reason"))]
    if len(notes) > MOST_REASONS:
        notes[MOST_REASONS:] = [f"and {len(notes) - MOST_REASONS} more"]
    return Part("Together", lead, notes=notes, sections=[*sections, *learning_section(groups)])


def _alone(run: RunFiles, details: Details, what: str) -> Part:
    """All about one run."""
    notes = [f"{run.text('status')}: {run.text('reason')}"] if run.text("reason") else []
    if run.row.get("status") != "finished" and not notes:
        notes = [f"The run has not finished (status: {run.text('status') or 'unknown'})."]
    return Part(
        f"{what}{run.label}",
        of_runs.about(run),
        run.text("status") or "unknown",
        of_runs.tiles(run),
        [*notes, *details.notes],
        [
            *of_runs.numbers_section(run),
            *learning_section(settings([run])),
            *details.sections,
            *of_runs.configuration_section(run),
        ],
    )
