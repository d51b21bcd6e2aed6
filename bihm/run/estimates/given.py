"""log p of the seen part of rows, and of the missing part given it; for BiHM of its p* as well."""

from typing import Any, NamedTuple

import numpy as np

from bihm.config import Config
from bihm.kernels.spread import tiles_at_once, work_on_tiles
from bihm.machine.family import Report, silent
from bihm.machine.likelihood import Estimates, check_meaning
from bihm.machine.machine import Params, Structure, bind
from bihm.machine.missing import COMPLETIONS, PROPOSALS, Seen, check_factorised, seen_tile
from bihm.machine.rules import has_p_star
from bihm.records.results import pair_of
from bihm.run.build import make_keys
from bihm.run.estimates.splits import TILE, ZERO, each_tile, tiles_of
from bihm.types import AnyArray, Float

BLOCK = 5  # samples from each completion at once, beside as many from the prior
INNER = 5  # of q for each of them, for p~*


def samples_seen(K: int) -> int:
    """How many samples the seen part of a row has: K, rounded up to whole blocks."""
    whole = 2 * COMPLETIONS * BLOCK
    return -(-K // whole) * whole


class Given(NamedTuple):
    """Estimates for each row, (rows,), in nats, from K samples, rounded up to whole hundreds.

    Those of the seen parts are in the mean lower bounds. What belongs to p* is None but for model=bihm;
    what belongs to missing parts is None where each row misses others.
    """

    log_p_seen: Float[AnyArray, " rows"]  # log sum_missing p(x)
    log_p_tilde_star_seen: Float[AnyArray, " rows"] | None  # log sum_missing p~*(x)
    log_p_missing: Float[AnyArray, " rows"] | None  # log p(x) - log p(seen)
    log_p_star_missing: Float[AnyArray, " rows"] | None  # log p~*(x) - log p~*(seen): no Z
    ess_p_seen: Float[AnyArray, " rows"]  # as fractions of the samples for the seen parts
    ess_p_star_seen: Float[AnyArray, " rows"] | None


def seen_estimates(
    config: Config,
    structure: Structure,
    params: Params,
    rows: np.ndarray,
    seen: np.ndarray,
    K: int,
    *,
    seed: int | None = None,
    report: Report = silent,
) -> Seen:
    """log p(seen part) of every row; for BiHM log p~* of it, too. Fields are (rows,), nats, float64.

    `rows` are uint8 (rows, visible), `seen` is bool (visible,) or (rows, visible).

    Raises:
        ConfigError: the machine's bits cannot be summed out.
    """
    check_factorised(bind(structure, params))
    key = make_keys(config.seed if seed is None else seed).given
    inner = INNER if has_p_star(config.model.name) else 0
    at_once = COMPLETIONS * max(2 * BLOCK * (1 + inner), PROPOSALS)
    height = min(len(rows), max(1, TILE // at_once))
    seen = np.broadcast_to(seen, rows.shape)

    def estimate(numbers: range) -> list[list[np.ndarray]]:
        (counts, x), (_, known) = (
            tiles_of(some, numbers, height, padding)
            for some, padding in ((rows, ZERO), (seen, np.True_))
        )
        made = work_on_tiles(
            seen_tile, key, numbers, structure, params, (x, known), (np.int32(K),),
            block=BLOCK, inner=inner,
        )  # fmt: skip
        return [
            [field[:count].astype(np.float64) for field in made[i] if field is not None]
            for i, count in enumerate(counts)
        ]

    parts = each_tile(estimate, -(-len(rows) // height), report, tiles_at_once(params))
    found = Seen(*map(np.concatenate, zip(*parts, strict=True)))
    nothing = ~seen.any(axis=1)  # p(nothing) is 1, whatever samples say
    return found._replace(
        log_p=np.where(nothing, 0.0, found.log_p), ess_p=np.where(nothing, 1.0, found.ess_p)
    )


def as_estimates(found: Seen) -> Estimates:
    """The same as estimates of whole rows are, without k-hat."""
    nothing = np.full_like(found.log_p, np.nan)
    star = nothing if found.log_p_tilde_star is None else found.log_p_tilde_star
    ess_star = nothing if found.ess_p_star is None else found.ess_p_star
    return Estimates(found.log_p, star, found.ess_p, ess_star)


def given_of(whole: Estimates | None, found: Seen) -> Given:
    """What is missing, given what is seen, from estimates of `whole` rows and of their seen parts."""
    missing = star_missing = None
    if whole is not None:
        missing = np.asarray(whole.log_p) - found.log_p
        if found.log_p_tilde_star is not None:
            star_missing = np.asarray(whole.log_p_tilde_star) - found.log_p_tilde_star
    return Given(
        found.log_p, found.log_p_tilde_star, missing, star_missing, found.ess_p, found.ess_p_star
    )


def given_block(found: Given, seen: np.ndarray, K: int) -> dict[str, Any]:
    """What a file says of estimates of the parts under one mask, bool (visible,), with K samples; nats.

    Raises:
        NumbersError: an estimate is not finite.
    """
    block: dict[str, Any] = {"seen": int(seen.sum()), "missing": int((~seen).sum())}
    block["samples_seen"] = samples_seen(K)
    for name, values in found._asdict().items():
        if values is not None:
            pair = pair_of(values)
            check_meaning(f"the estimate of {name}", pair["mean"])
            block[name] = pair["mean"] if name.startswith("ess") else pair
    return block
