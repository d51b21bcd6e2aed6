"""The tests of each module, and what they say of a copy of the tree in which one file is faulty."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from mutations import Fault

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = (".git", ".venv", "outputs", "__pycache__", ".*_cache")
# The tests of each module that faults are put into; the quickest first.
NUMERICS = "kernels/test_numerics.py"
LAYERS = "machine/test_layers.py"
STEP = "machine/test_training_step.py"
TARGETPROP = "machine/targetprop/test_machine.py"
TESTS: dict[str, list[str]] = {
    "machine/rules.py": ["machine/test_rules.py"],
    "machine/likelihood.py": ["machine/test_likelihood.py"],
    "machine/optimizer.py": ["machine/test_optimizer.py", STEP],
    "machine/minibatches.py": ["machine/test_minibatches.py"],
    "run/estimates/splits.py": ["run/estimates/test_splits.py"],
    "run/estimates/curve.py": ["run/test_evaluate.py"],
    "run/estimates/estimate_files.py": ["run/test_evaluate.py", "cli/test_out.py"],
    "run/estimates/given.py": ["run/estimates/test_given.py", "run/test_evaluate.py"],
    "run/training/images.py": ["run/families/test_looks.py"],
    "run/families/looks.py": ["run/families/test_looks.py"],
    "run/training/limits.py": ["run/test_build.py"],
    "records/summaries.py": ["records/test_logbook.py"],
    "run/estimates/repeats.py": ["run/test_evaluate.py"],
    "run/estimates/sandwich.py": ["run/test_evaluate.py"],
    "records/results.py": ["records/test_results.py", "machine/test_likelihood.py"],
    "run/training/loop.py": ["run/training/test_loop.py"],
    "run/training/step_sums.py": ["run/training/test_step_sums.py"],
    "records/checkpoint.py": ["records/test_checkpoint.py", "records/test_damage.py"],
    "kernels/together.py": ["kernels/test_together.py"],
    "records/seeds.py": ["records/test_seeds.py"],
    "cli/going_on.py": ["cli/test_going_on.py"],
    "cli/held_runs.py": ["cli/test_going_on.py"],
    "cli/like.py": ["cli/test_like.py"],
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
    "kernels/spread.py": ["kernels/test_spread.py", "run/training/test_several_devices.py"],
    "run/training/devices.py": ["run/training/test_several_devices.py"],
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
    "machine/tails.py": ["machine/test_tails.py"],
    "machine/intervals.py": ["machine/test_intervals.py"],
    "machine/sandwich.py": ["machine/test_sandwich.py"],
    "machine/layers/factorised.py": [LAYERS],
    "machine/layers/__init__.py": [LAYERS, "machine/test_machine.py"],
    "kernels/compiled.py": ["kernels/test_compiled.py"],
    "run/training/stopping.py": [
        "run/training/test_stopping.py",
        "run/training/test_raised_limits.py",
    ],
    "run/training/processes.py": ["run/training/test_processes.py"],
    "run/estimates/mixture.py": ["run/estimates/test_mixture.py"],
    "run/estimates/evaluate_mixture.py": ["run/estimates/test_mixture.py"],
    "records/locks.py": ["records/test_locks.py"],
    "records/runs.py": ["test_door.py"],
}
NO_FAULTS = {"machine/family.py"}  # a protocol: nothing there computes
QUICK, LONG = "not long and not device", "long and not device"
NONE_THERE = 5  # pytest's exit code
MEMORY = 12 * 2**30  # bytes that a faulty test may ask for
PATIENCE = (
    20  # seconds of the clock for one of the processor, should a fault make a test wait for ever
)


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

    def test(
        self, module: str, seconds: float, marked: str = QUICK, keep_bytecode: bool = False
    ) -> str:
        """ "passed", "failed" or "timed out": by processor time, which a busy machine does not change."""
        tests = [str(self.tree / "tests" / name) for name in TESTS[module]]
        environment = dict(self.environment)
        if not keep_bytecode:  # a faulty file must not be taken for the right one
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "--tb=line", "-m", marked]
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
        return "passed" if process.returncode in (0, NONE_THERE) else "failed"

    def test_with(self, module: str, fault: Fault, seconds: float, marked: str) -> str:
        """The same with a fault in the module, which is taken out again."""
        path = self.tree / "bihm" / module
        path.write_text(fault.source)
        try:
            return self.test(module, seconds, marked)
        finally:
            shutil.copy2(ROOT / "bihm" / module, path)


class Bench:
    """Tests faults with the copy of a tree, and knows how long each module's tests take without one."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._whole: dict[tuple[str, str], float] = {}

    def outcome(self, module: str, fault: Fault) -> str:
        """ "caught", "timed out" or "survived"."""
        outcome = self._by(module, fault, QUICK)
        if outcome == "passed":
            outcome = self._by(module, fault, LONG)
        return {"passed": "survived", "failed": "caught"}.get(outcome, outcome)

    def _by(self, module: str, fault: Fault, marked: str) -> str:
        if (module, marked) not in self._whole:
            before = processor_seconds()
            if self._copy.test(module, 1200, marked, keep_bytecode=True) != "passed":
                sys.exit(f"{self._copy.said}\nthe tests of {module} fail without a fault")
            self._whole[module, marked] = processor_seconds() - before
        seconds = 10 + 3 * self._whole[module, marked]
        return self._copy.test_with(module, fault, seconds, marked)


def processor_seconds() -> float:
    """Of the tests until now."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
