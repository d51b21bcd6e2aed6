"""The finished runs and ensembles of a folder, which the tables read."""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from jobs import is_finished, made_by

from bihm.config import load
from bihm.records.run_files import read_json


class Run(NamedTuple):
    """A finished run: its results, its seed, and the commit that made it."""

    results: dict[str, Any]
    seed: int
    commits: list[str]  # more than one of a run that a later one went on with


def finished_runs(folder: Path, recipe: str) -> list[Run]:
    """The finished runs of a recipe, by seed."""
    found = [
        Run(
            read_json(directory / "results.json"),
            load(directory / "config.yaml").seed,
            str(made_by(directory)["commit"]).split(", "),
        )
        for directory in folder.glob(f"{recipe}-seed*")
        if is_finished(directory)
    ]
    return sorted(found, key=lambda run: run.seed)


def first_runs(folders: list[Path], recipe: str) -> list[Run]:
    """Those of the first folder that has any."""
    return next(filter(None, (finished_runs(folder, recipe) for folder in folders)), [])


def mixture_file(folder: Path, recipe: str) -> Path:
    """Where the estimate of a recipe's seeds as one model goes."""
    return folder / f"{recipe}-mixture.json"


def digits_of(pairs: list[dict[str, float]]) -> int:
    """As many digits as the standard errors allow."""
    return 3 if statistics.mean(pair["sem"] for pair in pairs) < 0.01 else 2
