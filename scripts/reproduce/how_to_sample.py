"""How a trained machine of target propagation is best sampled: a bounded search that looks at valid alone.

    python scripts/reproduce/how_to_sample.py RUN [--record FILE] [--variances 4,9] [--rounds 1,2] ..

For each top variance, number of rounds and alpha of GENERATE's inference: the Parzen estimate of valid rows
from 10,000 samples of the run's best state, sigma chosen on valid, too. Prints a line for each, best last,
and writes them into the record, where what stands in it already is not computed again.
"""

import argparse
import itertools
import os
from pathlib import Path

import numpy as np
from jobs import recorded

from bihm import load
from bihm.machine.family import silent
from bihm.machine.likelihood import mean_and_sem
from bihm.machine.parzen import choose_sigma, parzen_log_p
from bihm.records.run_files import write_json
from bihm.run.build import make_keys
from bihm.run.families import targetprop_tiles as tiles
from bihm.run.families.targetprop import TargetProp

SAMPLES = 10_000


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> None:
    """Estimate, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--variances", type=numbers, default=[4.0, 9.0, 16.0, 25.0])
    parser.add_argument("--rounds", type=whole_numbers, default=[1, 2, 3])
    parser.add_argument("--alphas", type=numbers, default=[0.3])
    parser.add_argument("--record", type=Path, default=Path("how_to_sample.json"))
    words = parser.parse_args()
    machine = load(words.run)
    if not isinstance(machine.family, TargetProp):
        raise SystemExit(
            f"{words.run} is of model={machine.config.model.name}; needed is targetprop"
        )
    rows, key = machine.rows("valid"), make_keys(machine.config.seed).valid
    inference = machine.family.sampling
    run = os.path.relpath(words.run, words.record.parent)
    before = recorded(words.record) if words.record.is_file() else {"run": run, "tried": []}
    if before.get("run") != run:
        whose = before.get("run", "a run that it does not name")
        raise SystemExit(f"{words.record} is the record of {whose}; give another --record")
    found = before["tried"]
    known = {(one["top_variance"], one["rounds"], one["sample_alpha"]) for one in found}
    for setting in itertools.product(words.variances, words.rounds, words.alphas):
        if setting in known:
            continue
        variance, rounds, alpha = setting
        samples = tiles.generate(
            key, machine.structure, machine.params, SAMPLES, silent,
            variance=variance, rounds=rounds, how=inference._replace(alpha=alpha),
        )  # fmt: skip
        sigma, _ = choose_sigma(rows, samples)
        mean, sem = mean_and_sem(parzen_log_p(rows, samples, np.array([sigma]))[0])
        one = {
            "top_variance": variance, "rounds": rounds, "sample_alpha": alpha,
            "sigma": round(sigma, 4),
            "valid_parzen": round(mean, 2), "sem": round(sem, 2),
        }  # fmt: skip
        print(one, flush=True)
        found = sorted([*found, one], key=lambda each: each["valid_parzen"])
        write_json(words.record, {"run": run, "split": "valid", "samples": SAMPLES, "tried": found})
    print("\nbest last:", *found, sep="\n")


if __name__ == "__main__":
    main()
