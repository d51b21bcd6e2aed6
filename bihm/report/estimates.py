"""The estimates that a report makes itself: bounded in rows and samples, from the run's own seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bihm.machine.layer_terms import layer_terms, units_in_use
from bihm.machine.likelihood import (
    Estimates,
    LogZ,
    check_meaning,
    mean_and_sem,
    minus_log_z,
    summarise_log_z,
)
from bihm.machine.rules import has_p_star
from bihm.run.build import make_keys
from bihm.run.estimates.curve import curve
from bihm.run.estimates.sandwich import sandwich_block, sandwich_rows
from bihm.run.estimates.splits import log_z_samples
from bihm.run.trained import TrainedMachine

Z_OUTER = 100_000  # samples for 2 log Z, at most
GAP_ROWS, GAP_K = 200, 1000  # of the sandwich
SAMPLES = 20  # of q for each row, for the layers
LAYER_ROWS = 500
WORK = 5e12  # multiply-adds of the estimates, about: a few minutes on two cores
FEWEST_ROWS = 50


class Point(NamedTuple):
    """A mean over rows and its standard error, nats."""

    mean: float
    sem: float


class Believed(NamedTuple):
    """Estimates against K on rows of test, and how far they can be believed."""

    rows: int  # of test that were looked at
    of: int  # rows that test has
    Ks: list[int]
    means: dict[
        str, list[Point]
    ]  # log_p, and for BiHM log_p_tilde_star and log_p_star: one for each K
    ess: dict[str, np.ndarray]  # by row at the largest K: p, and for BiHM p*
    k_hat: dict[str, np.ndarray]  # the same


class Layers(NamedTuple):
    """What each layer h_1 .. h_L does."""

    rows: int
    kl: list[Point]  # nats, see `kl_terms`
    activity: list[float]  # mean over units
    in_use: list[int]  # units that take both values
    sizes: list[int]


def ladder(most: int) -> list[int]:
    """1, 10, 100, .. up to the largest K."""
    powers = [10**i for i in range(10) if 10**i < most]
    return [*powers, most]


def chosen_rows(machine: TrainedMachine, rows: np.ndarray, most: int, K: int) -> np.ndarray:
    """At most so many rows, and fewer for a large machine; spread over a split that may be sorted."""
    affordable = max(FEWEST_ROWS, int(WORK / (K * max(1, machine.parameters))))
    count = min(len(rows), most, affordable)
    chosen: np.ndarray = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    return chosen


def believe(machine: TrainedMachine, log_z: LogZ | None, most_rows: int, K: int) -> Believed:
    """Estimate rows of test at K = 1, 10, .. in one pass."""
    test = machine.rows("test")
    rows, Ks = chosen_rows(machine, test, most_rows, K), ladder(K)
    found = curve(machine, rows, Ks, "test")
    names = ["log_p"] if log_z is None else ["log_p", "log_p_tilde_star"]
    means = {name: [Point(*mean_and_sem(getattr(one, name))) for one in found] for name in names}
    if log_z is not None:
        means["log_p_star"] = [
            Point(*minus_log_z((point.mean, point.sem), log_z))
            for point in means["log_p_tilde_star"]
        ]
    for name, points in means.items():
        for at, point in zip(Ks, points, strict=True):
            check_meaning(f"the estimate of {name} at K={at}", point.mean)
    last = found[-1]
    return Believed(len(rows), len(test), Ks, means, _by_row(last, "ess", log_z),
                    _by_row(last, "k_hat", log_z))  # fmt: skip


def _by_row(estimates: Estimates, what: str, log_z: LogZ | None) -> dict[str, np.ndarray]:
    models = ["p"] if log_z is None else ["p", "p*"]
    fields = {model: getattr(estimates, f"{what}_{_plain(model)}") for model in models}
    return {model: values for model, values in fields.items() if not np.isnan(values).any()}


def _plain(model: str) -> str:
    return model.replace("*", "_star")


def log_z_path(machine: TrainedMachine) -> list[LogZ] | None:
    """2 log Z from 100, 200, 500, .. samples of p; the last are all of the run's own, or `Z_OUTER`."""
    config = machine.config
    if not has_p_star(config.model.name):
        return None
    outer = min(config.eval.final_z_outer, Z_OUTER)
    key, inner = make_keys(config.seed).log_z, config.eval.z_inner
    terms = log_z_samples(key, machine.structure, machine.params, outer, inner)
    steps = [n * 10**i for i in range(2, 9) for n in (1, 2, 5) if n * 10**i < outer]
    path = [summarise_log_z(terms[:count], inner) for count in [*steps, outer]]
    for one in path:
        check_meaning(f"the estimate of 2 log Z from {one.outer} samples", one.mean)
    return path


def gap(machine: TrainedMachine, K: int) -> dict[str, Any]:
    """How much of log p the estimate lacks on dreamt rows; see `bihm.machine.sandwich`."""
    samples = min(GAP_K, K)
    return sandwich_block(sandwich_rows(machine, samples, GAP_ROWS), samples)


def look_at_layers(machine: TrainedMachine, most_rows: int) -> Layers:
    """KL and activity of each layer on rows of test."""
    test = machine.rows("test")
    rows = chosen_rows(machine, test, min(most_rows, LAYER_ROWS), SAMPLES)
    key = jax.random.fold_in(make_keys(machine.config.seed).pictures, 1)
    found = layer_terms(
        key, machine.structure, machine.params, jnp.asarray(rows, jnp.float32), samples=SAMPLES
    )
    kl = [Point(*mean_and_sem(column)) for column in np.asarray(found.kl).T]
    for i, point in enumerate(kl, start=1):
        check_meaning(f"the KL of layer {i}", point.mean)
    units = [np.asarray(layer) for layer in found.activity]
    return Layers(
        len(rows),
        kl,
        [float(layer.mean()) for layer in units],
        [units_in_use(layer) for layer in units],
        [layer.size for layer in units],
    )


def share(values: Sequence[float] | np.ndarray, above: float) -> float:
    """The share of values above a limit."""
    return float((np.asarray(values) > above).mean())
