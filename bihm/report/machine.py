"""What the page says of a run's machine: estimates that the report makes, pictures, and its layers."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from bihm.errors import BihmError, Interrupted, disk_refusals
from bihm.machine.layer_terms import IN_USE
from bihm.machine.likelihood import LogZ
from bihm.machine.tails import HIGH
from bihm.report import estimates, plots
from bihm.report.files import RunFiles, nats
from bihm.report.page import Chart, Key, Section
from bihm.report.pictures import Shown, pictures
from bihm.report.runs import LIKELIHOODS
from bihm.run.load import read_run
from bihm.run.trained import TrainedMachine

K_HAT = "k\N{NON-BREAKING HYPHEN}hat"
QUIET = 0.01  # nats: a layer that takes less tells nothing
Made = TypeVar("Made")
Say = Callable[[str], None]


class Bounds(NamedTuple):
    """How much the estimates of a report may cost."""

    rows: int = 500
    K: int = 10_000


class Details:
    """The sections about one run's machine; `notes` tell which are missing, and why."""

    def __init__(self, run: RunFiles, bounds: Bounds, say: Say) -> None:
        self.run, self.bounds, self.say = run, bounds, say
        self.notes: list[str] = []
        self.sections: list[Section] = []
        machine = self._try("Estimates and pictures", lambda: read_run(run.directory))
        if machine is not None:
            self.sections = [*self._believe(machine), *self._look(machine), *self._layers(machine)]

    def _try(self, what: str, make: Callable[[], Made]) -> Made | None:
        """A part of the page, or a note on why it is not there."""
        self.say(f"{self.run.label}: {what.lower()}")
        try:
            with disk_refusals():
                return make()
        except Interrupted:
            raise
        except BihmError as error:
            # The page may go to others: they need not know where the run lies.
            reason = str(error).replace(f"{self.run.directory}/", "")
            self.notes.append(f"{what} are left out: {reason}")
            return None

    def _believe(self, machine: TrainedMachine) -> list[Section]:
        if not machine.family.has_likelihood:
            return []
        path = self._try("Estimates of 2 log Z", lambda: estimates.log_z_path(machine))
        log_z = path[-1] if path else None
        rows, K = self.bounds
        found = self._try("Estimates against K", lambda: estimates.believe(machine, log_z, rows, K))
        gap = self._try("Estimates of dreamt rows", lambda: estimates.gap(machine, K))
        charts = [] if found is None else [_against_k(found)]
        if path:
            charts.append(_against_outer(path, machine.config.eval.z_inner))
        charts += [] if found is None else list(_by_row(found))
        lead = "" if found is None else _rows_in_words(found)
        if gap is not None:
            lead += (
                f" On {gap['examples']} rows that the machine dreamt, where the truth lies between two "
                f"estimates, the lower one lacks at most {nats(gap['gap']['mean'])} ± "
                f"{nats(gap['gap']['sem'])} nats at K={gap['K']:,}."
            )
        return [Section("How far to believe it", lead.strip(), charts=charts)] if lead else []

    def _look(self, machine: TrainedMachine) -> list[Section]:
        shown: list[Shown] = []

        def draw() -> None:
            shown.extend(pictures(machine))

        self._try("Pictures", draw)
        return [Section("What it draws", pictures=shown)] if shown else []

    def _layers(self, machine: TrainedMachine) -> list[Section]:
        if not machine.family.has_likelihood:
            return []
        found = self._try(
            "Plots of the layers", lambda: estimates.look_at_layers(machine, self.bounds.rows)
        )
        if found is None:
            return []
        lead = (
            f"From {found.rows:,} rows of test with {estimates.SAMPLES} samples of q each. A layer with a "
            "KL near zero, or without units in use, is dead: it tells nothing about the data."
            f"{_quiet(found)}"
        )
        return [Section("Which layers are alive", lead, charts=list(_of_layers(found)))]


def _rows_in_words(found: estimates.Believed) -> str:
    """Which rows these are, and the share that is not to be believed."""
    which = "all" if found.rows == found.of else f"{found.rows:,} of the"
    said = (
        f"Made for this page from {which} {found.of:,} rows of test, with K up to {found.Ks[-1]:,}."
    )
    for model, values in found.k_hat.items():
        said += (
            f" For {model}, {100 * estimates.share(values, HIGH):.1f} % of the rows have a {K_HAT} above "
            f"{HIGH} at K={found.Ks[-1]:,}."
        )
    return said


def _against_k(found: estimates.Believed) -> Chart:
    series, legend = [], []
    for i, (name, points) in enumerate(found.means.items()):
        means = np.array([point.mean for point in points])
        half = 1.96 * np.nan_to_num(np.array([point.sem for point in points]))
        series.append(plots.Series(name, found.Ks, means, means - half, means + half, i, dots=True))
        legend.append(Key(LIKELIHOODS[name], i))
    return Chart(
        "The estimate against K",
        plots.lines(series, "samples K for each row", "nats", log_x=True),
        "A curve that still climbs at its right end needs more samples; bands are 95 % over the rows.",
        legend,
    )


def _against_outer(path: Sequence[LogZ], inner: int) -> Chart:
    outer = [one.outer for one in path]
    series = plots.Series("2 log Z", outer, [one.mean for one in path], [one.low for one in path],
                          [one.high for one in path], 0, dots=True)  # fmt: skip
    return Chart(
        "2 log Z against outer samples",
        plots.lines([series], "samples of p", "nats", log_x=True),
        f"The normaliser of p*, with {inner} samples of q for each sample of p; the band is 95 %.",
    )


def _by_row(found: estimates.Believed) -> Iterator[Chart]:
    K = f"K={found.Ks[-1]:,}"
    for values, title, label, caption, level in (
        (found.ess, "Effective sample size by row", "ESS",
         f"Rows from the worst to the best: how many of the {K} samples count, as a share.", None),
        (found.k_hat, "k-hat by row", "k-hat",
         f"Rows from the best to the worst at {K}; above {HIGH}, the dotted line, it may be too low.",
         HIGH),
    ):  # fmt: skip
        series, legend = [], []
        for i, (model, by_row) in enumerate(values.items()):
            ordered = np.sort(by_row[np.isfinite(by_row)])
            if ordered.size:
                places = np.linspace(0, 1, ordered.size) if ordered.size > 1 else np.zeros(1)
                series.append(plots.Series(model, places, ordered, colour=i))
                legend.append(Key(model, i))
        if series:
            svg = plots.lines(series, "share of rows", label, level=level, percent_x=True,
                              percent_y=level is None)  # fmt: skip
            yield Chart(title, svg, caption, legend)


def _quiet(found: estimates.Layers) -> str:
    """Which layers take next to nothing."""
    quiet = [str(i + 1) for i, point in enumerate(found.kl) if abs(point.mean) < QUIET]
    if not quiet:
        return f" Every layer takes {QUIET} nats or more."
    some, take = ("Layer", "takes") if len(quiet) == 1 else ("Layers", "take")
    return f" {some} {', '.join(quiet)} of {len(found.kl)} {take} less than {QUIET} nats."


def _of_layers(found: estimates.Layers) -> Iterator[Chart]:
    names = [str(i + 1) for i in range(len(found.sizes))]
    x_label = "latent layer, from the data up"
    errors = [float(np.nan_to_num(point.sem)) for point in found.kl]
    kl = [point.mean for point in found.kl]
    yield Chart(
        "KL(q || p) by layer",
        plots.bars(names, kl, x_label, "nats", errors=errors),
        "What each layer takes from the evidence bound, the mean of log q(h_l | h_l-1) - "
        "log p(h_l | h_l+1) under q: how much it tells about a row.",
    )
    used = [count / size for count, size in zip(found.in_use, found.sizes, strict=True)]
    yield Chart(
        "Activity by layer",
        plots.bars(names, used, x_label, "", dots=found.activity, percent=True),
        f"Units in use are on, and off, at least {100 * IN_USE:.0f} % of the time; the mean "
        "activity is how often a unit is on, over units, rows and samples of q.",
        [Key("units in use", 0), Key("mean activity", 1)],
    )
