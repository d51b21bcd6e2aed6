"""All runs below a folder as flat rows: configuration and final numbers side by side."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bihm.config import Config, flatten, load
from bihm.errors import BihmError, ConfigError
from bihm.records.run_files import read_json, require_run

FILES = {"config.yaml", "status.json", "results.json"}  # by any of these a run is known
SPLIT_NUMBERS = (
    *("log_p", "log_p_sem", "log_p_tilde_star", "log_p_tilde_star_sem", "log_p_star"),
    *("log_p_star_sem", "two_log_z", "two_log_z_stderr", "ess_p", "ess_p_star", "K", "examples"),
    *("high_k_hat_p", "high_k_hat_p_star"),
)
NUMBERS = (
    *("parameters", "train.epochs", "train.steps", "train.best_epoch", "train.seconds"),
    "train.stopped_by",
    *(f"{split}.{name}" for split in ("test", "valid") for name in SPLIT_NUMBERS),
)
OF_THE_CONFIG = {"schema", "model", "dataset", "layers", "seed"}  # said there already


def rows(folder: Path) -> list[dict[str, Any]]:
    """One flat dictionary for each run at or below `folder`, by name of directory; all have the same keys.

    Raises:
        ConfigError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise ConfigError(f"{folder}: there is no such folder")
    return rows_of(sorted(_runs(folder)))


def require_any(directory: Path) -> Path:
    """Return the directory if it holds anything by which a run is known, however it ended.

    Raises:
        ConfigError: it does not.
    """
    return require_run(directory, known_by=FILES)


def rows_of(directories: Iterable[Path]) -> list[dict[str, Any]]:
    """The same for runs at these places, in this order."""
    found = [_row(directory) for directory in directories]
    keys = ["directory", "status", "reason", *flatten(Config()), *NUMBERS]
    columns = dict.fromkeys([*keys, *(key for row in found for key in row)])
    return [columns | row for row in found]


def _runs(folder: Path) -> list[Path]:
    """The runs at or below a folder, each once, and what links to one; other links are not followed."""
    found, links = [], []
    for place, inner, files in os.walk(folder):
        # A checkpoint's thousand files are no runs; nor is what a file manager or a notebook hides.
        inner[:] = [name for name in inner if name != "checkpoints" and not name.startswith(".")]
        links += [Path(place, name) for name in inner if os.path.islink(Path(place, name))]
        if set(files) & FILES:
            found.append(Path(place))
    there = {os.path.realpath(place) for place in found}
    for link in sorted(links):
        if os.path.realpath(link) not in there and any((link / name).is_file() for name in FILES):
            there.add(os.path.realpath(link))
            found.append(link)
    return found


def _row(directory: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"directory": str(directory), "status": None, "reason": ""}
    problems = []
    for name in ("config.yaml", "status.json", "results.json"):
        if not os.path.lexists(directory / name):
            continue
        if name == "results.json" and row["status"] not in (None, "finished"):
            continue  # a run that goes on: they are those of its end before, of another state
        try:
            row |= READ[name](directory / name)
        except (
            Exception
        ) as error:  # whatever a damaged file makes of itself, the others shall be seen
            message = str(error) if isinstance(error, BihmError) else f"{name} is damaged"
            problems.append(message)
    if problems:
        row["reason"] = "; ".join([*filter(None, [row["reason"]]), *problems])
        row["status"] = row["status"] or "damaged"
    return row


def _status(path: Path) -> dict[str, Any]:
    content = read_json(path)
    return {"status": str(content["status"]), "reason": str(content.get("reason") or "")}


def _config(path: Path) -> dict[str, Any]:
    return flatten(load(path))


def _results(path: Path) -> dict[str, Any]:
    content = read_json(path)
    return dict(_leaves({k: v for k, v in content.items() if k not in OF_THE_CONFIG}, ""))


def _leaves(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Leaves under dotted names; of an estimate, the mean under its own: test.log_p, test.log_p_sem."""
    for key, value in node.items():
        name = f"{prefix}.{key}" if prefix else key
        if not isinstance(value, dict):
            yield name, value
        elif "mean" in value:
            yield name, value["mean"]
            yield from ((f"{name}_{part}", v) for part, v in value.items() if part != "mean")
        else:
            yield from _leaves(value, name)


READ = {"status.json": _status, "config.yaml": _config, "results.json": _results}
