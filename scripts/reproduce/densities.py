"""The table of machines of real numbers: Parzen estimates, which no other table's numbers compare with."""

import statistics
from typing import Any

from jobs import among, of_seeds

HEAD = (
    *("recipe", "Parzen estimate", "of directed samples", "of training rows (anchor)"),
    *("published", "its directed samples", "sigma", "samples"),
    *("updates", "s", "seeds", "device", "commit"),
)


def estimate(results: list[dict[str, Any]], name: str) -> str:
    """One of the estimates of a split, over seeds."""
    pairs = [found["test"][name] for found in results]
    return of_seeds([pair["mean"] for pair in pairs], [pair["sem"] for pair in pairs], digits=1)


def row_of(cell: dict[str, str], runs: list[Any]) -> list[str]:
    """One row of the table; of a cell without runs only what is published."""
    name, known = f"`{cell['recipe']}`", [cell["published"], cell["published_directed"]]
    if not runs:
        return [name, "not run", "-", "-", *known, *["-"] * 7]
    results = [run.results for run in runs]
    train = [found["train"] for found in results]
    return [
        name,
        *(estimate(results, n) for n in ("parzen", "parzen_directed", "parzen_anchor")),
        *known,
        among(f"{found['test']['parzen']['sigma']:.3f}" for found in results),
        among(found["test"]["parzen"]["samples"] for found in results),
        among(found["steps"] for found in train),
        f"{statistics.mean(found['seconds'] for found in train):.0f}",
        among(run.seed for run in runs),
        among(found["device"] for found in results),
        among(commit for run in runs for commit in run.commits),
    ]
