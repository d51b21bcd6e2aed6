"""The final numbers of a run: the content of `results.json`, and the same for a person."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bihm import __version__
from bihm.machine import tails
from bihm.machine.likelihood import Estimates, LogZ, check_meaning, mean_and_sem, minus_log_z
from bihm.types import AnyArray

MANY = 0.1  # rows with a high k-hat, as a share: below it some are high by chance
# From this ESS on the bias of log p, (1 / ESS - 1) / 2K nats to first order, is below 1 / 2K, and a high
# k-hat more often that of weights of few different values, which look like a heavy tail.
ENOUGH = 0.5
FEW = 100  # samples that count: with as many the bias, 1 / 2 ESS nats to first order, is 0.005

DENSITIES = ("parzen", "parzen_directed", "parzen_anchor")  # of real numbers
# Of a split, with mean and error, in the order of a table: likelihoods of bits, then densities.
ESTIMATES = (
    *("log_p", "log_p_tilde_star", "log_p_star", "two_log_z"),
    *(*DENSITIES, "log_p_xh"),
)


def block_of(estimates: Estimates, K: int, log_z: LogZ | None) -> dict[str, Any]:
    """The block of `results.json` for one split; the p* fields only where there is a `log_z`.

    Raises:
        NumbersError: an estimate is not finite, or too large for float32 to mean anything.
    """

    result: dict[str, Any] = {"examples": len(estimates.log_p), "K": K}
    result["log_p"] = pair_of(estimates.log_p)
    if log_z is not None:
        bound = result["log_p_tilde_star"] = pair_of(estimates.log_p_tilde_star)
        star = minus_log_z((bound["mean"], bound["sem"]), log_z)
        result["log_p_star"] = dict(zip(("mean", "sem"), star, strict=True))
        result["two_log_z"] = log_z._asdict()
    result["ess_p"] = mean_and_sem(estimates.ess_p)[0]
    if log_z is not None:
        result["ess_p_star"] = mean_and_sem(estimates.ess_p_star)[0]
    if estimates.k_hat_p is not None:
        result["high_k_hat_p"] = _share_of_high(estimates.k_hat_p)
    if log_z is not None and estimates.k_hat_p_star is not None:
        result["high_k_hat_p_star"] = _share_of_high(estimates.k_hat_p_star)
    for name in ("log_p", "log_p_tilde_star", "two_log_z"):
        if name in result:
            check_meaning(f"the estimate of {name}", result[name]["mean"])
    return result


def table(blocks: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of a small table for a person, one for each split."""
    lines = []
    for split, block in blocks.items():
        if "parzen" in block:
            lines.append(_density_line(split, block))
            if "log_p" not in block:
                continue
        rows = f"{block['examples']} rows"
        if "missing_values" in block:
            rows += f" without {block['missing_values']} missing values"
        parts = [f"{split:5s} {rows}, K={block.get('samples_seen', block['K'])}:"]
        stars = [name for name in ("log_p_tilde_star", "log_p_star") if name in block]
        for name in ("log_p", *stars):
            parts.append(f"{name} {plus_minus(block[name])}")
        if "two_log_z" in block:
            parts.append(f"2 log Z {plus_minus(block['two_log_z'])}")
            parts.append(f"ESS p* {100 * block['ess_p_star']:.1f} %")
        parts.append(f"ESS p {100 * block['ess_p']:.1f} %")
        for model, name in (("p*", "high_k_hat_p_star"), ("p", "high_k_hat_p")):
            if block.get(name) is not None:
                parts.append(f"k-hat {model} > {tails.HIGH}: {100 * block[name]:.1f} %")
        lines.append("  ".join(parts))
        if "repeats" in block:
            lines += _interval_lines(block)
        if "given" in block:
            lines.append(_given_line(block["given"]))
        if "sandwich" in block:
            lines.append(_sandwich_line(block["sandwich"]))
    return lines


def _interval_lines(block: dict[str, Any]) -> list[str]:
    """A line for each likelihood that was estimated several times: its interval, and whence its error."""
    lines = []
    for name in ("log_p", "log_p_tilde_star", "log_p_star"):
        if name in block:
            one = block[name]
            lines.append(
                f"{name} by {block['repeats']} seeds: {number(one['corrected'])} without most of its bias, "
                f"95 % {number(one['low'])} to {number(one['high'])}  "
                f"+- {number(one['sem_rows'])} over rows, {number(one['sem_samples'])} over samples  "
                f"bias: {one['bias']}"
            )
    return lines


def _given_line(block: dict[str, Any]) -> str:
    shown = {name: plus_minus(pair) for name, pair in block.items() if isinstance(pair, dict)}
    of = f"{block['missing']} missing units {shown['log_p_missing']}"
    seen = f"{block['seen']} seen {shown['log_p_seen']}"
    star = shown.get("log_p_star_missing")
    more = f"  log_p_star of the missing {star}" if star else ""
    more += f"  ESS p of the seen {100 * block['ess_p_seen']:.1f} %"
    return f"given {block['mask']}:  log_p of the {of}  of the {seen}{more}"


def _sandwich_line(block: dict[str, Any]) -> str:
    lower, upper, gap = (plus_minus(block[name]) for name in ("lower", "upper", "gap"))
    rows = f"sandwich {block['examples']} dreamt rows, K={block['K']}"
    return f"{rows}:  log_p from {lower} to {upper}  gap {gap}"


def doubts(block: dict[str, Any]) -> list[str]:
    """A line for each estimate of a block that many rows' weights are too heavy-tailed for."""
    untried = (
        "" if "sandwich" in block else ", and bihm-eval sandwich=true shows how much is missing"
    )
    lines = []
    for model, name, more in (("p", "p", untried), ("p*", "p_star", "")):
        share = block.get(f"high_k_hat_{name}") or 0.0
        if share > MANY and block[f"ess_{name}"] < ENOUGH:
            lines.append(
                f"log {model} may be understated: k-hat is above {tails.HIGH} for {100 * share:.0f} % of "
                f"the rows; a larger K takes more of it away{more}"
            )
    return lines + _doubts_of_parts(block)


def _doubts_of_parts(block: dict[str, Any]) -> list[str]:
    """A line where few samples count for the seen parts of rows, of whose weights no tail is looked at."""
    if "given" in block:
        part, share = block["given"], block["given"]["ess_p_seen"]
        also = ", and that of the missing part overstated"
    elif "missing_values" in block:
        part, share, also = block, block["ess_p"], ""
    else:
        return []
    samples = part["samples_seen"]
    if share * samples >= FEW:
        return []
    return [
        f"log p of the seen part may be understated{also}: of {samples} samples only "
        f"{share * samples:.0f} count (ESS p); a larger K takes more of it away"
    ]


def _share_of_high(k_hat: Float[AnyArray, " rows"]) -> float | None:
    """Of the rows; None where K is too small for a tail."""
    known = np.asarray(k_hat)
    return None if np.isnan(known).any() else float((known > tails.HIGH).mean())


def _density_line(split: str, block: dict[str, Any]) -> str:
    """Densities of real numbers, and the anchor: training rows as samples."""
    parts = [f"{split:5s} {block['examples']} rows, densities:"]
    for name in DENSITIES:
        if name in block:
            parts.append(f"{name} {plus_minus(block[name])}")
    if "parzen" in block:
        parts.append(f"sigma {block['parzen']['sigma']:.3f}, {block['parzen']['samples']} samples")
    if "log_p_xh" in block:
        parts.append(f"log p(x, h) {number(block['log_p_xh']['mean'])}")
    return "  ".join(parts)


def score(block: dict[str, Any]) -> float:
    """The number of a split that a sweeper compares jobs by: of the model's own likelihood or density."""
    name = next(name for name in ("log_p_tilde_star", "log_p", "parzen") if name in block)
    return float(block[name]["mean"])


def pair_of(values: Float[AnyArray, " rows"]) -> dict[str, float]:
    """The mean over rows and its standard error, as files of estimates have them."""
    return dict(zip(("mean", "sem"), mean_and_sem(values), strict=True))


def plus_minus(pair: Mapping[str, float | None]) -> str:
    """A mean with its error for a person; of one row that is unknown, NaN here and null in JSON."""
    mean, error = pair["mean"], pair.get("sem", pair.get("stderr"))
    assert mean is not None
    return f"{number(mean)} +- {'?' if error is None or np.isnan(error) else number(error)}"


def number(value: float) -> str:
    """A number of nats for a person: three decimals, and never wider than a column of a table."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3e}"


def summary(results: dict[str, Any]) -> list[str]:
    """The end of a run in a few lines for a person."""
    train = results["train"]
    return [
        f"best epoch {train['best_epoch']} of {train['epochs']}, {train['seconds']:.1f} s, "
        f"stopped by {train['stopped_by']}",
        *table({name: results[name] for name in ("valid", "test")}),
    ]


def per_example_arrays(estimates: Estimates, log_z: LogZ | None) -> dict[str, np.ndarray]:
    """The estimates of every row; those of p* only where there is a `log_z`."""
    star = ("log_p_tilde_star", "ess_p_star", "k_hat_p_star")
    found = estimates._asdict()
    return arrays_of(
        {name: v for name, v in found.items() if log_z is not None or name not in star}
    )


def arrays_of(fields: dict[str, Any]) -> dict[str, np.ndarray]:
    """What there is of some values for each row, as they were computed."""
    return {name: np.asarray(v, np.float32) for name, v in fields.items() if v is not None}


def versions() -> dict[str, str]:
    """What computed the numbers."""
    names = ("jax", "flax", "optax", "orbax-checkpoint")
    packages = {name: importlib.metadata.version(name) for name in names}
    return {"bihm": __version__, "python": platform.python_version(), **packages}
