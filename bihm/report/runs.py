"""What the page says of runs from their files alone: numbers, learning curves, configuration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bihm.config import Config, flatten
from bihm.config.families import PARZEN, TARGETPROP
from bihm.machine.rules import RULES
from bihm.report import plots
from bihm.report.files import RunFiles, as_number, nats
from bihm.report.page import Cell, Chart, Key, Section, Table, Tile
from bihm.report.settings import Setting, shown

LIKELIHOODS = {  # of results.json, as a person reads them
    "log_p_star": "log p*",
    "log_p_tilde_star": "log p~*",
    "log_p": "log p",
    "two_log_z": "2 log Z",
    "parzen": "Parzen density",
    "parzen_directed": "Parzen, directed",
    "parzen_anchor": "Parzen of training rows",
    "log_p_xh": "log p(x, h)",
}
SHARES = {
    "ess_p_star": "ESS p*",
    "ess_p": "ESS p",
    "high_k_hat_p_star": "k-hat p* > 0.7",
    "high_k_hat_p": "k-hat p > 0.7",
}
PATHS = ("dataset.path", "init.from")  # of somebody's machine: only their names are shown
COLOURS = 6
MOST_POINTS = 300  # of a curve
NOTHING = "\N{EN DASH}"


def estimate(run: RunFiles, name: str) -> Cell:
    """A mean and its error, as `test.log_p`."""
    mean = run.number(name)
    if mean is None:
        return Cell(NOTHING)
    error = run.number(f"{name}_sem")
    error = run.number(f"{name}_stderr") if error is None else error
    return Cell(nats(mean) if error is None else f"{nats(mean)} ± {nats(error)}", mean)


def share(run: RunFiles, name: str) -> Cell:
    """A fraction in percent."""
    value = run.number(name)
    return Cell(NOTHING) if value is None else Cell(f"{100 * value:.1f} %", value)


def tiles(run: RunFiles) -> list[Tile]:
    """The numbers of test that one looks at first."""
    found = []
    for name in ("log_p_star", "log_p", "two_log_z", "parzen", "parzen_anchor"):
        cell = estimate(run, f"test.{name}")
        if cell.number is not None:
            mean, _, error = cell.text.partition(" ± ")
            found.append(
                Tile(f"{LIKELIHOODS[name]} of test", mean, f"± {error} nats" if error else "")
            )
    for name in ("ess_p_star", "ess_p"):
        cell = share(run, f"test.{name}")
        if cell.number is not None:
            found.append(Tile(f"{SHARES[name]} of test", cell.text, "of K samples"))
            break
    return found


def numbers_section(run: RunFiles) -> list[Section]:
    """The final numbers of valid and test; nothing where there are none."""
    splits = ("test", "valid")
    rows = []
    for names, cell in ((LIKELIHOODS, estimate), (SHARES, share)):
        for name, title in names.items():
            cells = [cell(run, f"{split}.{name}") for split in splits]
            if any(one.number is not None for one in cells):
                rows.append([Cell(title), *cells])
    if not rows:
        return []
    rows.append([Cell("rows"), *(_count(run, f"{split}.examples") for split in splits)])
    rows.append([Cell("K"), *(_count(run, f"{split}.K") for split in splits)])
    rows = [row for row in rows if any(cell.text != NOTHING for cell in row[1:])]
    said = "The final estimates of the best state, in nats for each row, ± one standard error."
    return [Section("Numbers", tables=[Table(["", *splits], rows, said)])]


def _count(run: RunFiles, name: str) -> Cell:
    value = run.number(name)
    return Cell(NOTHING) if value is None else Cell(f"{value:,.0f}", value)


def about(run: RunFiles) -> str:
    """A run in one line: its sizes, and how it was trained."""
    parts = []
    if run.row.get("layers") is not None:
        parts.append("-".join(map(str, [run.row["dataset.n_features"], *run.row["layers"]])))
    if (parameters := run.number("parameters")) is not None:
        parts.append(f"{parameters:,.0f} parameters")
    if run.row.get("seed") is not None:
        parts.append(f"seed {run.row['seed']}")
    if (epochs := run.number("train.epochs")) is not None:
        best = run.number("train.best_epoch") or 0
        parts.append(f"best epoch {best:,.0f} of {epochs:,.0f}")
    if (seconds := run.number("train.seconds")) is not None:
        parts.append(f"{seconds:,.0f} s")
    if device := run.text("device"):
        parts.append(device)
    return " · ".join(parts)


def title(run: RunFiles) -> str:
    """What was trained on what."""
    model, dataset = run.text("model.name"), run.text("dataset.name")
    return f"{model} on {dataset}" if model and dataset else "a run without a configuration"


def configuration_section(run: RunFiles) -> list[Section]:
    """All keys, and of those that are not as by default also what they would be."""
    if run.row.get("layers") is None:
        return []
    rows = []
    defaults = flatten(Config()) | {"layers": None}
    target = run.row.get("model.name") == TARGETPROP
    for key, default in defaults.items():
        value = run.row.get(key)
        if (value is None and default is None) or (key in PARZEN and not target):
            continue
        text = Path(value).name if key in PATHS and isinstance(value, str) else shown(value)
        changed = value != default and default is not None
        rows.append([Cell(key), Cell(text), Cell(shown(default) if changed else "")])
    names = sorted(key for key in run.row if key.startswith("versions."))
    rows += [[Cell(name), Cell(run.text(name)), Cell("")] for name in names if run.text(name)]
    table = Table(
        ["key", "value", "default"], rows, "The resolved configuration, and what computed."
    )
    return [Section("Configuration", tables=[table], folded=True)]


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
        if effective := _effective(some, on):
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
    for i, group in enumerate(groups):
        colour = i if len(groups) <= COLOURS else None
        for split, dashed in (("valid", False), ("train", True)):
            band = _band(group, f"{split}/{name}")
            if band is None or (dashed and len(groups) > 2):
                continue
            values += list(band.y)
            both = f"{group.label}, {split}" if len(groups) == 2 else group.label
            label = split if len(groups) == 1 else both
            series.append(band._replace(colour=colour, dashed=dashed, label=label))
            legend.append(Key(label, colour, dashed))
    best = max(values)
    floor = float(np.quantile(values, 0.04))
    cut = min(values) < floor - 0.05 * (best - floor)
    svg = plots.lines(series, "epoch", "nats", floor=floor if cut else None)
    of_valid = " of valid" if len(groups) > 2 else ""
    caption = f"{what}{of_valid} as training goes on, in nats for each row; higher is better."
    seeds = max(len(group.runs) for group in groups)
    if seeds > 1:
        caption += (
            f" Lines are means over up to {seeds} seeds, bands reach from the worst to the best."
        )
    if cut:
        caption += " The first epochs lie below the picture."
    return Chart(f"{what} by epoch", svg, caption, legend[: 2 * COLOURS])


def _effective(groups: Sequence[Setting], on: str) -> Chart | None:
    series, legend = [], []
    for i, group in enumerate(groups):
        colour = i if len(groups) <= COLOURS else None
        star = _curve_name(group) == "log_p_tilde_star"
        name, model = ("ess_p_star", "p*") if star else ("ess_p", "p")
        band = _band(group, f"valid/{name}")
        if band is not None:
            series.append(band._replace(colour=colour))
            legend.append(Key(f"{group.label}: {model}" if len(groups) > 1 else model, colour))
    if not series:
        return None
    caption = (
        "Effective sample size on valid, as a share of the K samples: how well q fits the model; at 100 % "
        "it is the posterior."
    )
    svg = plots.lines(series, "epoch", "ESS", percent_y=True)
    return Chart(f"Effective sample size{on} by epoch", svg, caption, legend[:COLOURS])


def _has(run: RunFiles, name: str) -> bool:
    return any(as_number(record.get(name)) is not None for record in run.records)


def _band(group: Setting, name: str) -> plots.Series | None:
    """The mean over seeds at the epochs that all of them reached, from the worst to the best."""
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
    low, high = (values.min(axis=0), values.max(axis=0)) if len(curves) > 1 else (None, None)
    return plots.Series(group.label, epochs, values.mean(axis=0).tolist(),
                        None if low is None else low.tolist(),
                        None if high is None else high.tolist())  # fmt: skip


def _thinned(epochs: list[float]) -> list[float]:
    if len(epochs) <= MOST_POINTS:
        return epochs
    places = np.linspace(0, len(epochs) - 1, MOST_POINTS).astype(int)
    return [epochs[i] for i in places]
