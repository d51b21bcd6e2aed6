"""The table that says how far each set's numbers reach: better than what is published, level, or behind.

Level 1 asks of each method to be no worse than the published one of its name, level 2 to be better than the
published BiHM, level 3 better than the best of any method. Within the noise of the test rows, as the paper
tells it, nothing is better or worse.
"""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

from finished import digits_of, first_runs
from jobs import line

from bihm.records.run_files import read_json

METHODS = {"bihm_": "BiHM", "rws_": "RWS, sbn", "bihm_darn_": "DARN"}  # by how recipes begin
HEAD = (
    *("set", "noise", *(f"{method}: ours" for method in METHODS.values()), "the best of ours"),
    *("against the published BiHM", "against the best of any"),
)
FEW = {1: " (one seed)", 2: " (two seeds)"}  # three are due of what is claimed
Cells = dict[str, dict[str, str]]


class Number(NamedTuple):
    """A test -log p of ours: of a recipe, as the mean over seeds, or of an ensemble."""

    name: str
    nats: float
    digits: int
    machines: int  # how many stand behind it

    def __str__(self) -> str:
        return f"{self.nats:.{self.digits}f}"

    def against(self, published: str, noise: str) -> str:
        """Better, level or behind, and by how many nats."""
        gap = round(float(published) - self.nats, self.digits)
        if abs(gap) <= float(noise):
            return f"level ({gap:+.{self.digits}f})"
        return f"{'better' if gap > 0 else 'behind'} by {abs(gap):.{self.digits}f}"


def numbers_of(name: str, cells: Cells, folders: list[Path]) -> dict[str, Number]:
    """Our numbers on a set, by recipe or file; of folders that both have one the first counts."""
    numbers = {}
    for recipe in cells:
        if pairs := [run.results["test"]["log_p"] for run in first_runs(folders, recipe)]:
            nats = -statistics.mean(pair["mean"] for pair in pairs)
            numbers[recipe] = Number(f"`{recipe}`", nats, digits_of(pairs), len(pairs))
    for folder in reversed(folders):
        for file in folder.glob(f"*_{name}-mixture.json"):
            block = read_json(file)
            n = len(block["members"])
            whose = f"`{file.stem.removesuffix('-mixture')}`, ensemble of {n}"
            nats = -block["log_p"]["mean"]
            numbers[file.stem] = Number(whose, nats, digits_of([block["log_p"]]), n)
    return numbers


def row_of(name: str, cells: Cells, numbers: dict[str, Number]) -> list[str]:
    """The row of a set, whose cells stand by recipe."""
    bihm = cells[f"bihm_{name}"]
    row = [f"{name}, {bihm['rows']}" if "rows" in bihm else name, bihm["noise"]]
    for start in METHODS:
        cell, ours = cells.get(f"{start}{name}"), numbers.get(f"{start}{name}")
        if cell and ours:
            row.append(
                f"{ours}{FEW.get(ours.machines, '')}, {ours.against(cell['published'], cell['noise'])}"
            )
        else:
            row.append("not run" if cell else "-")
    if not numbers:
        return [*row, "-", "-", "-"]
    best = min(numbers.values(), key=lambda number: number.nats)
    known = [best.against(bihm[published], bihm["noise"]) for published in ("published", "best")]
    return [*row, f"{best} ({best.name})", *known]


def table_of(tables: dict[str, Any], folders: list[Path]) -> str:
    """A row for every set that has a recipe of BiHM, a published one, and the noise of its rows."""
    cells = [cell for table in tables.values() for cell in table["cells"]]
    rows = []
    for name in (
        cell["recipe"].removeprefix("bihm_")
        for cell in cells
        if cell.get("method") == METHODS["bihm_"] and "noise" in cell
    ):
        own = {cell["recipe"]: cell for cell in cells if cell["recipe"].endswith(f"_{name}")}
        rows.append(line(row_of(name, own, numbers_of(name, own, folders))))
    return "\n".join([line(HEAD), line(["---"] * len(HEAD)), *rows])
