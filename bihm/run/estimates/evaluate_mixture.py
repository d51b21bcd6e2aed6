"""The numbers of a mixture of trained machines: its estimates, what is doubtful of them, and its file."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bihm.errors import ConfigError, DataError, disk_refusals
from bihm.machine.likelihood import Estimates, check_meaning
from bihm.machine.tails import HIGH
from bihm.records.results import block_of, doubts, pair_of, plus_minus
from bihm.records.run_files import place, read_json
from bihm.run.build import fixed_rows
from bihm.run.estimates.drawn_rows import draw_rows
from bihm.run.estimates.estimate_files import (
    Extras,
    find_dataset,
    leave_files,
    name_of,
    parameters_of,
    tell_of_rows,
)
from bihm.run.estimates.listener import NOBODY, Listener
from bihm.run.estimates.mixture import Mixture, fit_weights, log_p_of, mix
from bihm.run.trained import TrainedMachine


def _file(
    machines: Sequence[TrainedMachine], what: dict[str, Any], name: str, out: str | None
) -> Path:
    """Where estimates go; not over those of another mixture, or of other rows."""
    default = Path(f"{machines[0].stem}eval-mixture-{name}.json")
    reads = [what["dataset"], *(machine.config.dataset.path for machine in machines)]
    path = place(out, default, ".json", beside=[".npz"], reads=reads, replaces=True)
    with contextlib.suppress(DataError):  # absent or damaged: nothing to lose
        there = read_json(path)
        if isinstance(there, dict) and not _is_about(there, what):
            raise ConfigError(
                f"{path} holds other estimates than those of this mixture; choose another out="
            )
    return path


def _is_about(there: dict[str, Any], what: dict[str, Any]) -> bool:
    """Whether estimates are of these machines, at their places or moved with their parameters, and rows."""
    if any(there.get(key) != what.get(key) for key in ("dataset", "cut")):
        return False
    machines = there.get("mixture_of")  # a published block names its machines from its root
    places = list(map(os.path.realpath, machines)) if isinstance(machines, list) else machines
    same_places = places == list(map(os.path.realpath, what["mixture_of"]))
    return same_places or there.get("parameters") == what["parameters"]


@disk_refusals()
def evaluate_mixture(
    machines: Sequence[TrainedMachine],
    *,
    split: str,
    K: int,
    dataset: str | None = None,
    count: int | None = None,
    per_example: bool = False,
    out: str | None = None,
    to: Listener = NOBODY,
) -> dict[str, Any]:
    """Estimate a mixture on a split, its weights fitted on the machines' own valid rows with the same K.

    Writes `eval-mixture-<split>-K<K>.json` into the first machine's directory, or to `out`, and with
    `per_example` a `.npz` beside it: `log_p`, (rows,), and `log_p_each`, (machines, rows). With `count`
    only so many rows are estimated, and so many of valid, drawn at random, always the same ones.

    Raises:
        ConfigError: machines of different data, or estimates of another mixture in the place of these, or
            not as many rows as asked for.
        DataError: data missing or damaged.
    """
    mixture = Mixture(machines)
    identity, found = find_dataset(machines[0], dataset)
    about = tell_of_rows(identity, found, split, to)
    drawn = draw_rows(fixed_rows(machines[0].family, found, split), count, split, to)
    fitted = machines[0].rows("valid")
    fitted = draw_rows(fitted, count and min(count, len(fitted)), "valid", to).rows
    places = [os.path.abspath(name_of(machine)) for machine in machines]
    what = {**about, **drawn.about, "mixture_of": places}
    what["parameters"] = [parameters_of(machine) for machine in machines]
    file = _file(machines, what, f"{split}-K{K}{Extras(rows=count).name}", out)
    valid = mixture.estimates(fitted, K, split="valid", report=to.report)
    weights = fit_weights(log_p_of(valid))
    own = split == "valid" and identity == machines[0].config.dataset.name
    each = valid if own else mixture.estimates(drawn.rows, K, split=split, report=to.report)
    result = mixture_block(weights, each, K)
    if own:
        to.say("the weights were fitted on these same rows: look at test for what they are worth")
    to.show(result)
    for doubt in mixture_doubts(result):
        to.say(doubt)
    log_p = log_p_of(each)
    arrays = drawn.arrays | {"log_p": mix(weights, log_p), "log_p_each": log_p}
    block = {**what, "weights_fitted_on": "valid", **result}
    leave_files(file, block, arrays if per_example else {}, to)
    return result


def mixture_block(weights: np.ndarray, each: Sequence[Estimates], K: int) -> dict[str, Any]:
    """The block of `results.json` for a mixture: marked as one, with the number of each machine.

    Raises:
        NumbersError: an estimate is not finite.
    """
    mixed = pair_of(mix(weights, log_p_of(each)))
    check_meaning("the estimate of log_p", mixed["mean"])
    members = []
    for weight, one in zip(weights, each, strict=True):
        own = block_of(one, K, None)
        names = ("log_p", "ess_p", "high_k_hat_p")
        members.append({"weight": float(weight), **{n: own[n] for n in names if n in own}})
    return {
        "examples": len(each[0].log_p),
        "K": K,
        "ensemble": True,
        "log_p": mixed,
        "members": members,
    }


def mixture_doubts(block: dict[str, Any]) -> list[str]:
    """A line where the log p of machines is doubtful, as `doubts` has it of each."""
    doubtful = [member for member in block["members"] if doubts(member)]
    if not doubtful:
        return []
    share = 100 * max(member["high_k_hat_p"] for member in doubtful)
    return [
        f"log p of {len(doubtful)} of the {len(block['members'])} machines may be understated: k-hat is "
        f"above {HIGH} for up to {share:.0f} % of the rows; a larger K takes more of it away"
    ]


def mixture_table(split: str, names: Sequence[str], block: dict[str, Any]) -> list[str]:
    """Lines for a person: the ensemble, then each of its machines with its weight."""
    lines = [
        f"{split:5s} {block['examples']} rows, K={block['K']}:  ensemble of {len(names)}, weights "
        f"fitted on valid:  log_p {plus_minus(block['log_p'])}"
    ]
    for name, member in zip(names, block["members"], strict=True):
        lines.append(f"  {member['weight']:.3f} of {name}:  log_p {plus_minus(member['log_p'])}")
    return lines
