"""Put small faults into the source, one at a time, and see whether the tests of that file notice.

    python scripts/faults/mutants.py [--minutes 10] [--modules machine/rules.py,run/loop.py] [--seed 0]

A random sample of the faults of `mutations.py`, the same for the same seed, one of each module in turn.
Each is put into a copy of the tree in a temporary folder; the working tree is only read. Every module has
tests of its own, which run in one process until the first failure. What they need not notice is in
`accepted.txt`, with the reason. Ends with the counts and the faults that passed; exit code 1 if there is
one that is not accepted.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import libcst
from mutations import Fault, make, places

ROOT = Path(__file__).parents[2]
ACCEPTED = Path(__file__).with_name("accepted.txt")
LEFT_BEHIND = (".git", ".venv", "outputs", "__pycache__", ".*_cache")
# Tests of a/b.py are in tests/a/test_b.py, where there is such a file, or in these; the quickest first.
NUMERICS = "kernels/test_numerics.py"
LAYERS = "machine/test_layers.py"
STEP = "machine/test_training_step.py"
TARGETPROP = "machine/targetprop/test_machine.py"
TESTS: dict[str, list[str]] = {
    "machine/rules.py": ["machine/test_rules.py"],
    "machine/likelihood.py": ["machine/test_likelihood.py"],
    "machine/optimizer.py": ["machine/test_optimizer.py", STEP],
    "machine/minibatches.py": ["machine/test_minibatches.py"],
    "run/splits.py": ["run/test_splits.py"],
    "run/curve.py": ["run/test_evaluate.py"],
    "run/given.py": ["run/test_evaluate.py"],
    "run/images.py": ["run/test_looks.py"],
    "run/looks.py": ["run/test_looks.py"],
    "run/limits.py": ["run/test_build.py"],
    "records/summaries.py": ["records/test_logbook.py"],
    "run/repeats.py": ["run/test_evaluate.py"],
    "run/sandwich.py": ["run/test_evaluate.py"],
    "records/results.py": ["records/test_results.py", "machine/test_likelihood.py"],
    "run/loop.py": ["run/test_loop.py"],
    "run/step_sums.py": ["run/test_step_sums.py"],
    "records/checkpoint.py": ["records/test_checkpoint.py", "records/test_damage.py"],
    "kernels/together.py": ["kernels/test_together.py"],
    "records/seeds.py": ["records/test_seeds.py"],
    "cli/going_on.py": ["cli/test_going_on.py"],
    "records/digests.py": ["records/test_checkpoint.py"],
    "records/weights.py": ["records/test_weights.py"],
    "machine/training_step.py": ["machine/test_minibatches.py", STEP],
    "machine/sampling.py": ["machine/test_sampling.py"],
    "machine/layerwise.py": ["machine/test_layerwise.py"],
    "machine/missing.py": ["machine/test_missing.py"],
    "machine/search.py": ["machine/test_search.py"],
    "machine/parzen.py": ["machine/test_parzen.py"],
    "machine/targetprop/machine.py": [TARGETPROP],
    "machine/targetprop/training.py": [TARGETPROP],
    "machine/targetprop/sampling.py": [TARGETPROP],
    "machine/machine.py": ["machine/test_machine.py", "machine/test_exact.py"],
    "kernels/numerics.py": [NUMERICS],
    "kernels/bernoulli.py": [NUMERICS],
    "kernels/noise.py": [NUMERICS],
    "kernels/spread.py": ["kernels/test_spread.py", "run/test_several_devices.py"],
    "run/devices.py": ["run/test_several_devices.py"],
    "config/processes.py": ["config/test_processes.py"],
    "kernels/products.py": [NUMERICS, STEP],
    "kernels/packing.py": [STEP],
    "machine/layers/sbn.py": [LAYERS],
    "machine/layers/dsbn.py": [LAYERS],
    "machine/layers/darn.py": [LAYERS],
    "machine/layers/nade.py": [LAYERS],
    "machine/layers/nade_walk.py": [LAYERS],
    "machine/layers/order.py": [LAYERS],
    "machine/layers/conditional.py": ["machine/test_machine.py", LAYERS],
    "machine/layer_terms.py": ["machine/test_layer_terms.py"],
    "report/settings.py": ["report/test_settings.py"],
    "machine/layer_sizes.py": ["machine/test_machine.py"],
}
MEMORY = 12 * 2**30  # bytes that a faulty test may ask for
PATIENCE = (
    20  # seconds of the clock for one of the processor, should a fault make a test wait for ever
)


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


class Copy:
    """A copy of the tree, in which one file after the other is made faulty."""

    def __init__(self, folder: Path):
        self.tree = folder / "tree"
        shutil.copytree(ROOT, self.tree, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        (folder / "tmp").mkdir()
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.tree), os.environ.get("PYTHONPATH", "")]),
            "TMPDIR": str(folder / "tmp"),
            "BIHM_TESTS_COMPILED": str(
                folder / "compiled"
            ),  # one cache of compiled programs for all
            "JAX_PLATFORMS": "cpu",
        }

    def test(self, module: str, seconds: float, keep_bytecode: bool = False) -> str:
        """ "passed", "failed" or "timed out": by processor time, which a busy machine does not change."""
        tests = [str(self.tree / "tests" / name) for name in TESTS[module]]
        environment = dict(self.environment)
        if not keep_bytecode:  # a faulty file must not be taken for the right one
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "--tb=line"]
        limits = f'ulimit -v {MEMORY // 1024}; ulimit -t {round(seconds)}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", limits, "bash", sys.executable, "-m", "pytest", *options, *tests],
            cwd=self.tree, env=environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            self.said, _ = process.communicate(timeout=PATIENCE * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "timed out"
        if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return "timed out"
        return "passed" if process.returncode == 0 else "failed"

    def test_with(self, module: str, fault: Fault, seconds: float) -> str:
        """The same with a fault in the module, which is taken out again."""
        path = self.tree / "bihm" / module
        path.write_text(fault.source)
        try:
            return self.test(module, seconds)
        finally:
            shutil.copy2(ROOT / "bihm" / module, path)


def rounds(modules: list[str], seed: int) -> Iterator[tuple[str, Fault]]:
    """One fault of each module in turn."""
    for faults in zip_longest(*(sample(module, seed) for module in modules)):
        yield from ((m, f) for m, f in zip(modules, faults, strict=True) if f is not None)


def processor_seconds() -> float:
    """Of the tests until now."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    known, outcomes, survivors, whole = accepted(), Counter[tuple[str, str]](), [], {}
    with tempfile.TemporaryDirectory(prefix="bihm-mutants-") as folder:
        copy = Copy(Path(folder))
        for module, fault in rounds(modules, arguments.seed):
            if time.monotonic() > end or sum(outcomes.values()) == arguments.most:
                break
            if module not in whole:
                before = processor_seconds()
                if copy.test(module, 600, keep_bytecode=True) != "passed":
                    sys.exit(f"{copy.said}\nthe tests of {module} fail without a fault")
                whole[module] = processor_seconds() - before
            if Key(module, fault.removed, fault.added) in known:
                outcome = "accepted"
            else:
                outcome = copy.test_with(module, fault, seconds=10 + 3 * whole[module])
            outcome = {"passed": "survived", "failed": "caught"}.get(outcome, outcome)
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
