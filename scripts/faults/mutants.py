"""Put small faults into the source, one at a time, and see whether the tests of that file notice.

    python scripts/faults/mutants.py [--minutes 10] [--modules machine/rules.py,kernels/noise.py] [--seed 0]

A random sample of the faults of `mutations.py`, the same for the same seed, one of each module in turn.
Each is put into a copy of the tree in a temporary folder; the working tree is only read. Every module of
`TESTS` in `fault_tests.py` has tests, which run in one process until the first failure: the quick ones,
then, if these pass, the long ones of the same files. What they need not notice is in `accepted.txt`,
with the reason. Ends with the counts and the faults that passed; exit code 1 if there is one that is not
accepted.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import libcst
from fault_tests import ROOT, TESTS, Bench, Copy
from mutations import Fault, make, places

ACCEPTED = Path(__file__).with_name("accepted.txt")


class Key(NamedTuple):
    """What a fault is known by, wherever its lines have moved."""

    module: str
    removed: tuple[str, ...]
    added: tuple[str, ...]


def accepted() -> dict[Key, str]:
    """The faults that tests need not notice, each with its reason."""
    known = {}
    for block in ACCEPTED.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#!")]
        if lines:
            removed, added = (
                tuple(line[1:].strip() for line in lines if line[0] == s) for s in "-+"
            )
            reason = " ".join(line[1:].strip() for line in lines if line[0] == "#")
            known[Key(lines[0], removed, added)] = reason
    return known


def sample(module: str, seed: int) -> Iterator[Fault]:
    """The faults of a module in random order, each once."""
    tree, found = places(libcst.parse_module((ROOT / "bihm" / module).read_text()))
    random.Random(f"{seed} {module}").shuffle(found)
    seen = set()
    for place in found:
        fault = make(tree, place)
        if fault is not None and fault.source not in seen:
            seen.add(fault.source)
            yield fault


def rounds(modules: list[str], seed: int) -> Iterator[tuple[str, Fault]]:
    """One fault of each module in turn."""
    for faults in zip_longest(*(sample(module, seed) for module in modules)):
        yield from ((m, f) for m, f in zip(modules, faults, strict=True) if f is not None)


def show(module: str, fault: Fault) -> None:
    print(f"\nbihm/{module}:{fault.line}")
    for sign, lines in (("-", fault.removed), ("+", fault.added)):
        for line in lines:
            print(f"{sign} {line}")


def table(outcomes: "Counter[tuple[str, str]]", modules: list[str]) -> None:
    names = ("caught", "timed out", "accepted", "survived")
    print(f"\n{'module':34s}" + "".join(f"{name:>11s}" for name in names))
    for module in modules:
        print(f"{module:34s}" + "".join(f"{outcomes[module, name]:11d}" for name in names))
    total = {name: sum(outcomes[module, name] for module in modules) for name in names}
    print(f"{'all':34s}" + "".join(f"{total[name]:11d}" for name in names))
    noticed, tried = total["caught"] + total["timed out"], sum(total.values())
    print(f"{noticed} of {tried} noticed: {100 * noticed / max(1, tried):.1f} %")


def main() -> None:
    """Print a line for each fault, a table, and what passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--modules", default=",".join(TESTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=None, help="faults at most")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    modules = arguments.modules.split(",")
    if unknown := [module for module in modules if module not in TESTS]:
        parser.error(f"no tests are named for {', '.join(unknown)}")
    known, outcomes, survivors = accepted(), Counter[tuple[str, str]](), []
    with tempfile.TemporaryDirectory(prefix="bihm-mutants-") as folder:
        bench = Bench(Copy(Path(folder)))
        for module, fault in rounds(modules, arguments.seed):
            if time.monotonic() > end or sum(outcomes.values()) == arguments.most:
                break
            accept = Key(module, fault.removed, fault.added) in known
            outcome = "accepted" if accept else bench.outcome(module, fault)
            outcomes[module, outcome] += 1
            print(f"{outcome:9s} bihm/{module}:{fault.line}: {' '.join(fault.added)}", flush=True)
            if outcome == "survived":
                survivors.append((module, fault))
    table(outcomes, modules)
    for survivor in survivors:
        show(*survivor)
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
