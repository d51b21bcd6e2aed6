"""What the page says of a run from its files alone: its numbers and its configuration."""

from pathlib import Path

from bihm.config import Config, flatten
from bihm.config.families import PARZEN, TARGETPROP
from bihm.report.files import RunFiles, nats
from bihm.report.page import Cell, Section, Table, Tile
from bihm.report.settings import shown

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
            of = "" if name == "two_log_z" else " of test"  # that is of the machine alone
            found.append(Tile(LIKELIHOODS[name] + of, mean, f"± {error} nats" if error else ""))
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
    rows.append([Cell("rows"), *(whole(run, f"{split}.examples") for split in splits)])
    rows.append([Cell("K"), *(whole(run, f"{split}.K") for split in splits)])
    rows = [row for row in rows if any(cell.text != NOTHING for cell in row[1:])]
    said = "The final estimates of the best state, in nats for each row, ± one standard error."
    return [Section("Numbers", tables=[Table(["", *splits], rows, said)])]


def whole(run: RunFiles, name: str) -> Cell:
    """A whole number of a run, such as a count or seconds."""
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
