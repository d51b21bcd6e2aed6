"""The Parzen-window estimate: a density of real numbers from samples, by Gaussian kernels.

    log p(x) = logsumexp_i( -|x - s_i|^2 / (2 sigma^2) ) - log S - D log(sigma sqrt(2 pi))

(Breuleux, Bengio & Vincent 2011; the protocol of Goodfellow et al. 2014). In float64, and in nats of a
density: not comparable with the likelihood of bits. It saturates: blurred rows beat the rows themselves.
"""

import numpy as np

from bihm.machine.family import Report, silent
from bihm.types import Float

SIGMAS = np.logspace(-1, 0, 10)  # the published grid
SIGMA_ROWS = 1000  # of valid, the first ones, which choose sigma
BLOCK = 250  # rows at once: what bounds the memory


def parzen_log_p(
    rows: Float[np.ndarray, "rows visible"],
    samples: Float[np.ndarray, "samples visible"],
    sigmas: Float[np.ndarray, " sigmas"],
    report: Report = silent,
) -> Float[np.ndarray, "sigmas rows"]:
    """log p(x) of every row for every sigma, in nats, float64."""
    rows, samples = (np.asarray(a, np.float64) for a in (rows, samples))
    squares = np.sum(samples**2, axis=1)
    constant = np.log(len(samples)) + rows.shape[1] * np.log(sigmas * np.sqrt(2 * np.pi))
    parts, blocks = [], range(0, len(rows), BLOCK)
    for done, first in enumerate(blocks, start=1):
        some = rows[first : first + BLOCK]
        distance = np.sum(some**2, axis=1)[:, None] + squares[None] - 2 * (some @ samples.T)
        nearest = distance.min(axis=1)
        away = distance - nearest[:, None]
        sums = [
            np.log(np.exp(-away / (2 * s**2)).sum(axis=1)) - nearest / (2 * s**2) for s in sigmas
        ]
        parts.append(np.stack(sums))
        report(done, len(blocks))
    log_p: np.ndarray = np.concatenate(parts, axis=1) - constant[:, None]
    return log_p


def choose_sigma(
    rows: Float[np.ndarray, "rows visible"],
    samples: Float[np.ndarray, "samples visible"],
    report: Report = silent,
) -> tuple[float, float]:
    """The sigma of the grid that is best in the mean over the first rows of valid, and that mean."""
    means = parzen_log_p(rows[:SIGMA_ROWS], samples, SIGMAS, report).mean(axis=1)
    best = int(np.argmax(means))
    return float(SIGMAS[best]), float(means[best])
