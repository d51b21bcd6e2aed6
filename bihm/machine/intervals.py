"""Errors of estimates that were made several times: over the rows, and over the samples of each row.

For row i and repeat r there is e_ri, in nats. The mean over both has the variance

    Var = var_i(mean_r e_ri) / N        over rows and samples together: a row's samples are its own
        = rows + samples,  samples = mean_i var_r(e_ri) / (R N)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from bihm.machine.likelihood import LogZ, minus_log_z

Repeats = Float[np.ndarray, "repeats rows"]


class Interval(NamedTuple):
    """A mean with its standard error, its parts, and an interval of 95 %, in nats."""

    mean: float
    sem: float
    sem_rows: float  # due to which rows there are
    sem_samples: float  # due to the samples of each row
    corrected: float  # without the bias that falls as 1 / K; the interval is around it
    low: float
    high: float


def two_level(values: Repeats, power: float) -> Interval:
    """The mean over rows and repeats, two of each or more; the interval by Student's t over the rows.

    `values` are (1/power) log of means of w^power, and so too low by about c / K. All R repeats' samples
    together are too low by c / (R K), so that R / (R - 1) times the difference of the two is the bias.
    """
    repeats, rows = values.shape
    exact = values.astype(np.float64)
    each = exact.mean(axis=0)
    variance = each.var(ddof=1) / rows
    samples = exact.var(axis=0, ddof=1).mean() / (repeats * rows)
    corrected = each + (pooled(exact, power) - each) * repeats / (repeats - 1)
    middle, reach = corrected.mean(), _quantile(rows) * corrected.std(ddof=1) / np.sqrt(rows)
    parts = variance, max(0.0, variance - samples), samples
    return Interval(
        float(each.mean()),
        *(float(np.sqrt(part)) for part in parts),
        *map(float, (middle, middle - reach, middle + reach)),
    )


def star_interval(tilde: Interval, log_z: LogZ, rows: int) -> Interval:
    """That of log p* from log p~*'s: the error of 2 log Z, which all rows share, is one over samples."""
    middle = tilde.corrected - log_z.mean
    reach = float(np.hypot(tilde.high - tilde.corrected, _quantile(rows) * log_z.stderr))
    return Interval(
        *minus_log_z((tilde.mean, tilde.sem), log_z),
        tilde.sem_rows,
        float(np.hypot(tilde.sem_samples, log_z.stderr)),
        *(middle, middle - reach, middle + reach),
    )


def _quantile(rows: int) -> float:
    return float(stdtrit(rows - 1, 0.975))


def pooled(values: Repeats, power: float) -> Float[np.ndarray, " rows"]:
    """The estimates that all repeats' samples make together: (1/power) log (1/R) sum_r exp(power e_r)."""
    scaled = power * values.astype(np.float64)
    top = scaled.max(axis=0)
    with np.errstate(invalid="ignore"):  # of infinities; whoever asked will look
        mean: np.ndarray = top + np.log(np.exp(scaled - top).mean(axis=0))
    return mean / power


def pooled_log_z(several: Sequence[LogZ]) -> LogZ:
    """2 log Z of independent estimates together: the logarithm of the mean of their Z^2."""
    means = np.array([one.mean for one in several])
    share = np.exp(means - means.max())
    mean = float(means.max() + np.log(share.mean()))
    stderr = float(np.linalg.norm(share * [one.stderr for one in several]) / share.sum())
    outer = sum(one.outer for one in several)
    high = min(0.0, mean + 1.96 * stderr)
    low = mean - 1.96 * stderr
    return several[0]._replace(mean=mean, stderr=stderr, low=low, high=high, outer=outer)
