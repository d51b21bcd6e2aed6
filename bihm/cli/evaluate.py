"""`bihm-eval`: the likelihood of a run again, at any K, on any dataset of its width."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bihm.cli import exit_codes
from bihm.cli.keyvalue import parse, split_names
from bihm.errors import ConfigError
from bihm.records.progress import count_parts
from bihm.records.run_files import require_run

if TYPE_CHECKING:
    from bihm.run.estimates.listener import Listener
    from bihm.run.trained import TrainedMachine

PROGRAM = "bihm-eval"
SAMPLES = 10_000  # of a Parzen estimate
USAGE = """usage: bihm-eval run=DIR[,DIR...]|weights=FILE [split=test] [K=1000] [dataset=NAME]
                 [per_example=true] [sandwich=true] [repeats=R] [given=MASK]
                 [rows=N] [parzen=true] [samples=10000] [devices=N] [out=FILE]

Estimates log p, and for BiHM log p~*, 2 log Z and log p*, of the best state of a run. Prints a small
table, writes eval-<split>-K<K>.json into the run directory, or FILE.eval-<split>-K<K>.json, and prints
where it is.

  run=DIR            a run directory of bihm-train; or
  run=A,B,C          several, of one dataset: log p of their mixture, sum_m w_m p_m(x), an ensemble. Its
                     weights are fitted on valid with the same K; eval-mixture-<split>-K<K>.json in A; or
  weights=FILE       what bihm-export wrote
  split=test         train, valid or test
  K=1000             importance samples for each row; memory does not grow with K
  K=[1,10,100,1000]  one pass over the largest, and a file for each
  rows=500           only so many rows of the split, drawn at random and always the same: for a large K
  dataset=NAME       another dataset of the same width: a name that bihm-data list shows, or a file
                     .npz .npy .mat, .csv .tsv .txt .dat .data .amat, .libsvm .svm (tables also .gz);
                     one without splits is cut 80/10/10, always the same way, and split= is a part of it.
                     A table or array may lack values (nothing, ?, NA, NaN): then the numbers are log p of
                     the seen part of each row, from K rounded up to hundreds, and say how many are missing
  per_example=true   also write eval-<split>-K<K>.npz with one value for each row, in the split's order
                     (what follows is part of the names: eval-<split>-K<K>-repeats5-sandwich.json)
  sandwich=true      also dream 1000 rows, whose true latents are known, and estimate their log p from
                     below and from above: on them the lower estimate lacks at most the gap, in the mean
  repeats=5          estimate with so many seeds, the run's own and those after it: then there are 95 %
                     intervals, errors over rows and over samples, and what K x repeats samples give
  given=left         also log p of the missing part of each row given the seen one, by p and for BiHM by
                     p*, too: left, right, top or bottom is seen, or where a file of bits has a 1 (see
                     bihm-sample mask=); from K samples, rounded up to whole hundreds
  parzen=true        instead, the Parzen-window estimate: a density of real numbers, of rows as levels in
                     [0, 1], from means of pixels as samples, beside its anchor, training rows as samples;
                     written to eval-<split>-parzen<samples>.json; for model=targetprop it is all there is
  samples=10000      parzen: how many; sigma is chosen on valid
  devices=all        spread the work over all devices, or over so many; the numbers do not depend on it
  out=FILE           where to, a .json, or in which folder; arrays go beside it

Beside each estimate stands the share of rows whose k-hat is above 0.7 (Pareto smoothed importance
sampling): where those are many, and ESS is low, the estimate may be too low, and a line says so.
"""


@dataclass
class Command:
    """The arguments of `bihm-eval`."""

    run: str | None = None
    weights: str | None = None
    split: Literal["train", "valid", "test"] = "test"
    K: list[int] = field(default_factory=lambda: [1000])
    dataset: str | None = None
    rows: int | None = None
    per_example: bool = False
    sandwich: bool = False
    repeats: int = 1
    given: str | None = None
    parzen: bool = False
    samples: int | None = None
    devices: str = "1"
    out: str | None = None


def main(argv: list[str] | None = None) -> None:
    """The console script."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
    with exit_codes.command(PROGRAM, "lower K"):
        command = parse(argv, Command, PROGRAM, USAGE)
        if (command.run is None) == (command.weights is None):
            raise ConfigError("give one of run=DIR and weights=FILE")
        check_several(command)
        if command.samples is not None and not 1 <= command.samples <= 10**6:
            raise ConfigError(
                f"samples must be at least 1 and at most 10**6, got {command.samples}"
            )
        if command.rows is not None and command.rows < 1:
            raise ConfigError(f"rows must be at least 1, got {command.rows}")
        runs = _runs(command.run)
        for run in runs:
            require_run(run)
        if command.weights is not None and os.path.isdir(command.weights):
            raise ConfigError(
                f"weights={command.weights} is a folder; a run is run={command.weights}"
            )
        from bihm.runtime import configure_jax  # jax takes a second to import

        configure_jax()
        if len(runs) > 1:
            return _mixture(runs, command)
        from bihm.run.load import put_on, read_run, read_weights

        trained = read_run(runs[0]) if runs else read_weights(Path(str(command.weights)))
        _evaluate(put_on(trained, command.devices), command)


def _evaluate(trained: "TrainedMachine", command: Command) -> None:
    from bihm.records.results import table
    from bihm.run.evaluate import evaluate, evaluate_curve, evaluate_parzen

    common: dict[str, Any] = {
        "split": command.split,
        "dataset": command.dataset,
        "out": command.out,
        "to": _listener(lambda block: table({command.split: block})),
    }
    if command.parzen or not trained.family.has_likelihood:
        others = {
            "K": command.K != Command().K,
            "per_example": command.per_example,
            "rows": command.rows is not None,
        }
        asked = [name for name, given in others.items() if given] + asked_for(command)
        if asked:
            model = trained.config.model.name
            why = "parzen=true" if command.parzen else f"model={model}, which has a density only"
            raise ConfigError(f"{', '.join(asked)} cannot be had with {why}")
        evaluate_parzen(trained, samples=command.samples or SAMPLES, **common)
    elif command.samples is not None:
        raise ConfigError("samples has no meaning without parzen=true")
    elif len(command.K) > 1:
        common |= {"count": command.rows, "per_example": command.per_example}
        evaluate_curve(trained, Ks=command.K, **common)
    else:
        evaluate(
            trained,
            K=command.K[0],
            sandwich=command.sandwich,
            repeats=command.repeats,
            given=command.given,
            count=command.rows,
            per_example=command.per_example,
            **common,
        )


def check_several(command: Command) -> None:
    """See that each K makes sense, and that several go with the rest; then put them in order.

    Raises:
        ConfigError: they do not.
    """
    for K in command.K:
        if not 1 <= K < 2**31:
            raise ConfigError(f"K must be at least 1 and below 2**31, got {K}")
    command.K = sorted(set(command.K))
    for name in asked_for(command):
        if len(command.K) > 1:
            raise ConfigError(f"{name} goes with one K, got K={command.K}")


def asked_for(command: Command) -> list[str]:
    """What is asked for beside the estimates."""
    there = {
        "sandwich": command.sandwich,
        "repeats": command.repeats != 1,
        "given": command.given is not None,
    }
    return [name for name, given in there.items() if given]


def _runs(text: str | None) -> list[Path]:
    """The run directories that run= names."""
    return [] if text is None else [Path(name) for name in split_names(text)]


def _mixture(runs: list[Path], command: Command) -> None:
    from bihm.run.estimates.evaluate_mixture import evaluate_mixture, mixture_table
    from bihm.run.load import put_on, read_run

    if command.parzen or command.samples is not None:
        raise ConfigError("parzen and samples have no meaning for a mixture")
    if asked := asked_for(command):
        raise ConfigError(f"{', '.join(asked)} cannot be had for a mixture yet")
    if len(command.K) > 1:
        raise ConfigError(f"a mixture takes one K, got K={command.K}")
    names = list(map(str, runs))
    evaluate_mixture(
        [put_on(read_run(run), command.devices) for run in runs],
        split=command.split,
        K=command.K[0],
        dataset=command.dataset,
        count=command.rows,
        per_example=command.per_example,
        out=command.out,
        to=_listener(lambda block: mixture_table(command.split, names, block)),
    )


def _listener(table: Callable[[dict[str, Any]], list[str]]) -> "Listener":
    """The person at the terminal, who sees a result as a table."""
    from bihm.run.estimates.listener import Listener

    return Listener(
        lambda block: print("\n".join(table(block)), flush=True), count_parts, _say, print
    )


def _say(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
