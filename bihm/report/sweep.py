"""What the page says of several runs together: a table to sort, and what each swept key did."""

from collections.abc import Sequence

from bihm.report import plots
from bihm.report.files import RunFiles, minus, nats
from bihm.report.page import Cell, Chart, Section, Table
from bihm.report.runs import LIKELIHOODS, SHARES, estimate, share, whole
from bihm.report.settings import Effect, main_effects, short, shown, swept

NUMBERS = ("log_p_star", "log_p", "two_log_z", "parzen")  # of test, and the score on valid
MOST_EFFECTS, MOST_SHOWN = 8, 8  # keys in the plot, and values of each


def runs_section(runs: Sequence[RunFiles], score: str) -> Section:
    """A row for each run: what was swept, and its numbers."""
    keys = swept(runs)
    tests = [n for n in NUMBERS if any(run.number(f"test.{n}") is not None for run in runs)]
    shares = [n for n in SHARES if any(run.number(f"test.{n}") is not None for run in runs)][:1]
    split, _, name = score.partition(".")
    known = [score] if any(run.number(score) is not None for run in runs) else []
    rows = [
        [
            Cell(run.label),
            Cell(run.text("status") or "unknown"),
            *(_value(run, key) for key in keys),
            *(estimate(run, one) for one in known),
            *(estimate(run, f"test.{n}") for n in tests),
            *(share(run, f"test.{n}") for n in shares),
            whole(run, "train.epochs"),
            whole(run, "train.seconds"),
        ]
        for run in runs
    ]
    head = ["run", "status", *map(short, keys), *(f"{split} {LIKELIHOODS[name]}" for _ in known),
            *(f"test {LIKELIHOODS[n]}" for n in tests), *(f"test {SHARES[n]}" for n in shares),
            "epochs", "seconds"]  # fmt: skip
    said = "Every run, in nats for each row, ± one standard error; a click on a heading sorts."
    return Section("All runs", tables=[Table(head, rows, said, sortable=True)])


def _value(run: RunFiles, key: str) -> Cell:
    return Cell(shown(run.row.get(key)), run.number(key))


def effects_section(runs: Sequence[RunFiles], score: str, of: str = "") -> list[Section]:
    """The main effect of each swept key; nothing where nothing was swept, or no run has a number.

    The runs are of one dataset, which `of` names for the heading where others have theirs.
    """
    effects = main_effects(runs, score)
    if not effects:
        return []
    split, _, name = score.partition(".")
    what = f"{LIKELIHOODS[name]} of {split}"
    groups = [
        (
            short(effect.key),
            [(level.value, level.mean, level.sem) for level in effect.levels[:MOST_SHOWN]],
        )
        for effect in effects[:MOST_EFFECTS]
    ]
    first = effects[0].levels
    middle = sum(level.mean * level.runs for level in first) / sum(level.runs for level in first)
    lead = f"The mean of {what} over all runs with a value, whatever else differs among them."
    if any(effect.key == "seed" for effect in effects):
        lead += " What the seed does is chance: a yardstick for the rest."
    if not all(effect.balanced for effect in effects):
        lead += (
            " Not every combination is there, so what one key seems to do may be another's doing."
        )
    said = "Dots are means over runs, with one standard error; the dotted line is the mean of all runs."
    if any(len(effect.levels) > MOST_SHOWN for effect in effects) or len(effects) > MOST_EFFECTS:
        said += " The table has more."
    chart = Chart(f"Main effects on {what}", plots.effects(groups, middle, f"{what}, nats"), said)
    return [
        Section(f"Main effects{of}", lead, tables=[_table(effects)], charts=[chart], beside=True)
    ]


def _table(effects: Sequence[Effect]) -> Table:
    rows = []
    for effect in effects:
        for level in effect.levels:
            error = "" if level.sem is None else f" ± {nats(level.sem)}"
            rows.append(
                [
                    Cell(short(effect.key)),
                    Cell(level.value),
                    Cell(str(level.runs), level.runs),
                    Cell(f"{nats(level.mean)}{error}", level.mean),
                    Cell(minus(f"{level.effect:+.3f}"), level.effect),
                ]
            )
    said = "The effect is the mean with this value less the mean over all runs, in nats."
    return Table(["key", "value", "runs", "mean", "effect"], rows, said, sortable=True)
