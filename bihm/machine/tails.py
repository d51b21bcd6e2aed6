"""How heavy the tail of importance weights is: the k-hat of Pareto smoothed importance sampling.

Vehtari, Simpson, Gelman, Yao & Gabry (JMLR 25, 2024): the M largest of K weights, less the next smaller
one, follow a generalised Pareto distribution whose shape k says how many moments the weights have: 1/k.
Above 0.7 a mean of weights is not to be believed at any K that one can afford, and for log p it is too low.

The fit is that of Zhang & Stephens (Technometrics 51, 2009), in float64, on the host.
"""

import math

import numpy as np
from jaxtyping import Float

HIGH = 0.7  # above it an estimate is not to be believed
FEWEST = 5  # weights in a tail that can be fitted
MOST = 1000  # weights in a tail: 3 sqrt(K) for K = 100,000, and what bounds the memory beyond
PRIOR_K, PRIOR_WEIGHTS = 0.5, 10  # of k, as so many weights: it tames tails of a few

TINY = 1e-290  # beside the largest weight: where float64 ends
FLAT = 1e-8  # of b x: below it log(1 - b x) is -b x to half of float64's digits, and is known to no more

LogWeights = Float[np.ndarray, "rows samples"]


def tail_size(K: int) -> int:
    """M, how many of K weights are the tail: min(K / 5, 3 sqrt(K)), and at most `MOST`."""
    return min(math.ceil(min(K / 5, 3 * math.sqrt(K))), MOST)


class Largest:
    """The largest of all log weights that went by, a tail and one more for each row."""

    def __init__(self, rows: int, K: int) -> None:
        self._room = tail_size(K) + 1
        self.log_w = np.empty((rows, 0), np.float32)  # of each row, in no order

    def add(self, log_w: LogWeights) -> None:
        """Look at more of them; -inf stands for none."""
        both = np.concatenate([self.log_w, log_w], axis=1)
        less = both.shape[1] - self._room
        self.log_w = both if less <= 0 else np.partition(both, less, axis=1)[:, less:]

    def tail(self, K: int) -> LogWeights:
        """Those that are the tail of K weights, and the next smaller one."""
        less = self.log_w.shape[1] - (tail_size(K) + 1)
        return self.log_w if less <= 0 else np.partition(self.log_w, less, axis=1)[:, less:]


def k_hat(largest: LogWeights, power: float = 1.0) -> Float[np.ndarray, " rows"]:
    """The shape of the tail of w^power for each row; `largest` are its M largest log w, and the next one.

    NaN where there are fewer than FEWEST; infinity where so few are larger than all others, which nothing
    can be fitted to; 0 where none is: such weights are bounded, as far as one can see.
    """
    tails = np.sort(largest.astype(np.float64), axis=1) * power
    result = np.full(len(tails), np.nan)
    if tails.shape[1] <= FEWEST:
        return result
    with np.errstate(invalid="ignore"):  # of infinities; whoever asked will look
        weights = np.exp(tails - tails[:, -1:])
        beyond = weights[:, 1:] - weights[:, :1]
        counts = np.where(np.isfinite(beyond).all(axis=1), (beyond > TINY).sum(axis=1), -1)
    result[(counts >= 0) & (counts < FEWEST)] = np.inf
    result[counts == 0] = 0.0
    for count in np.unique(counts[counts >= FEWEST]):
        same = counts == count  # most rows: all but one of a tail lie beyond
        result[same] = pareto_shape(beyond[same, -count:])
    return result


def pareto_shape(x: Float[np.ndarray, "rows tail"]) -> Float[np.ndarray, " rows"]:
    """k of the generalised Pareto density (1 + k x / s)^(-1/k - 1) / s for each row of ascending x > 0.

    With b = -k / s the likelihood is largest, for a given b, at k(b) = mean_i log(1 - b x_i), where it is
    l(b) = n (log(-b / k(b)) - k(b) - 1). The estimate is k at the mean of b over its posterior on a grid,
    then drawn a little to PRIOR_K.
    """
    n = x.shape[1]
    points = 30 + int(math.sqrt(n))
    quartile = x[:, [int(n / 4 + 0.5) - 1]]
    spread = 1 - np.sqrt(points / (np.arange(points) + 0.5))
    b = 1 / x[:, -1:] + spread / (3 * quartile)
    k = _mean_log(b, x)
    # Ties put a point of the grid at b = 0, the exponential density, where -b / k(b) tends to 1 / mean(x).
    flat = np.abs(b) * x[:, -1:] < FLAT
    k[flat] = 0
    rate = np.where(flat, 1 / x.mean(axis=1, keepdims=True), -b / np.where(flat, 1, k))
    likelihood = n * (np.log(rate) - k - 1)
    weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    b_mean = (b * weights).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    fitted = _mean_log(b_mean, x)[:, 0]
    shape: np.ndarray = (n * fitted + PRIOR_WEIGHTS * PRIOR_K) / (n + PRIOR_WEIGHTS)
    return shape


def _mean_log(b: Float[np.ndarray, "rows points"], x: Float[np.ndarray, "rows tail"]) -> np.ndarray:
    """mean_i log(1 - b x_i), (rows, points); logarithms are what a fit costs, so of products."""
    most = 1 + np.abs(b).max() * x.max()
    at_once = max(1, min(16, int(600 / math.log2(max(most, 2.0)))))  # float64 ends at 2^1024
    missing = -x.shape[1] % at_once
    padded = np.pad(x, [(0, 0), (0, missing)])  # log(1 - 0) = 0
    parts = np.ascontiguousarray(padded.reshape(len(x), -1, at_once).transpose(2, 1, 0))
    slope = -b.T[:, None, :]
    product = np.ones((b.shape[1], *parts.shape[1:]))
    factor = np.empty_like(product)
    for part in parts:
        np.multiply(slope, part, out=factor)
        factor += 1
        product *= factor
    mean: np.ndarray = np.log(product).sum(axis=1).T / x.shape[1]
    return mean
