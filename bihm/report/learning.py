"""Learning curves of one or more runs in one chart, seeds of one setting as a mean and a band."""

import math
from collections.abc import Sequence

import numpy as np

from bihm.config.families import TARGETPROP
from bihm.machine.rules import RULES
from bihm.report import plots
from bihm.report.files import RunFiles, as_number
from bihm.report.page import Chart, Key, Section
from bihm.report.runs import LIKELIHOODS
from bihm.report.settings import Setting

COLOURS = 6
MOST_POINTS = 300  # of a curve


def learning_section(groups: Sequence[Setting]) -> list[Section]:
    """Learning curves; those of one dataset and one score in one chart."""
    charts = []
    of_one: dict[tuple[str, str], list[Setting]] = {}
    names = [_curve_name(group) for group in groups]
    if "log_p" in names:  # what machines with p* have as well
        names = ["log_p" if name == "log_p_tilde_star" else name for name in names]
    for group, name in zip(groups, names, strict=True):
        if any(_has(run, f"valid/{name}") for run in group.runs):
            of_one.setdefault((group.runs[0].text("dataset.name"), name), []).append(group)
    for (dataset, name), some in of_one.items():
        on = f" on {dataset}" if len(of_one) > 1 else ""
        charts.append(_learning(some, name, f"{LIKELIHOODS[name]}{on}"))
        if effective := _effective(some, name, on):
            charts.append(effective)
    return [Section("Learning", charts=charts)] if charts else []


def _curve_name(group: Setting) -> str:
    """The score of a setting's runs: what training ascends or watches."""
    model = group.runs[0].text("model.name")
    if model == TARGETPROP:
        return "parzen"
    return RULES[model].likelihood if model in RULES else "log_p"


def _learning(groups: Sequence[Setting], name: str, what: str) -> Chart:
    series, legend, values = [], [], []
    colours = _colours(groups, f"valid/{name}")
    for group, colour in zip(groups, colours, strict=True):
        for split, dashed in (("valid", False), ("train", True)):
            band = _band(group, f"{split}/{name}")
            if band is None or (dashed and len(groups) > 2):
                continue
            values += list(band.y)
            both = f"{group.label}, {split}" if len(groups) == 2 else group.label
            label = split if len(groups) == 1 else both
            series.append(band._replace(colour=colour, dashed=dashed))
            legend.append(Key(label, colour, dashed))
    best, floor = max(values), float(np.quantile(values, 0.04))
    cut = min(values) < floor - 0.05 * (best - floor)
    svg = plots.lines(_grey_first(series), "epoch", "nats", floor=floor if cut else None)
    of_valid = " of valid" if len(groups) > 2 else ""
    caption = f"{what}{of_valid} as training goes on, in nats for each row; higher is better."
    seeds = max(len(group.runs) for group in groups)
    if seeds > 1:
        caption += (
            f" Lines are means over up to {seeds} seeds, bands one standard deviation to each side."
        )
    if cut:
        caption += " The first epochs lie below the picture."
    return Chart(f"{what} by epoch", svg, caption, _shortened(legend))


def _effective(groups: Sequence[Setting], name: str, on: str) -> Chart | None:
    series, legend = [], []
    for group, colour in zip(groups, _colours(groups, f"valid/{name}"), strict=True):
        star = _curve_name(group) == "log_p_tilde_star"
        ess, model = ("ess_p_star", "p*") if star else ("ess_p", "p")
        band = _band(group, f"valid/{ess}")
        if band is not None:
            series.append(band._replace(colour=colour))
            legend.append(Key(f"{group.label}: {model}" if len(groups) > 1 else model, colour))
    if not series:
        return None
    caption = (
        "Effective sample size on valid, as a share of the K samples: how well q fits the model; at 100 % "
        "it is the posterior."
    )
    svg = plots.lines(_grey_first(series), "epoch", "ESS", percent_y=True)
    return Chart(f"Effective sample size{on} by epoch", svg, caption, _shortened(legend))


def _colours(groups: Sequence[Setting], name: str) -> list[int | None]:
    """A colour for each setting; where there are more settings than colours, for those that end best."""
    ends = [band.y[-1] if (band := _band(group, name)) else -math.inf for group in groups]
    ranked = sorted(range(len(groups)), key=lambda i: -ends[i])[:COLOURS]
    coloured = {i: colour for colour, i in enumerate(sorted(ranked))}
    return [coloured.get(i) for i in range(len(groups))]


def _grey_first(series: Sequence[plots.Series]) -> list[plots.Series]:
    """Grey lines lie below the others."""
    return sorted(series, key=lambda one: one.colour is not None)


def _shortened(legend: Sequence[Key]) -> list[Key]:
    """The entries with a colour, and one for all others."""
    named = [key for key in legend if key.colour is not None]
    others = len(legend) - len(named)
    return [*named, Key(f"{others} others", None)] if others else named


def _has(run: RunFiles, name: str) -> bool:
    return any(as_number(record.get(name)) is not None for record in run.records)


def _band(group: Setting, name: str) -> plots.Series | None:
    """The mean over seeds at the epochs that all of them reached, with one standard deviation."""
    curves = [
        {float(record["epoch"]): value for record in run.records
         if (value := as_number(record.get(name))) is not None}
        for run in group.runs
    ]  # fmt: skip
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    epochs = sorted(set.intersection(*map(set, curves))) or sorted(curves[0])
    curves = [curve for curve in curves if all(epoch in curve for epoch in epochs)]
    epochs = _thinned(epochs)
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
    mean = values.mean(axis=0)
    sd = values.std(axis=0, ddof=1) if len(curves) > 1 else None
    low, high = (None, None) if sd is None else ((mean - sd).tolist(), (mean + sd).tolist())
    few = len(epochs) < 3  # of one point there is no line
    return plots.Series(group.label, epochs, mean.tolist(), low, high, dots=few)


def _thinned(epochs: list[float]) -> list[float]:
    if len(epochs) <= MOST_POINTS:
        return epochs
    places = np.linspace(0, len(epochs) - 1, MOST_POINTS).astype(int)
    return [epochs[i] for i in places]
