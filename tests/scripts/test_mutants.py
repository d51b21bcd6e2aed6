"""The faults that `scripts/faults/mutants.py` makes, and that it says which of them passed."""

import subprocess
import sys
from pathlib import Path

import libcst
import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "faults"))
from fault_tests import NO_FAULTS
from mutants import TESTS, Key, accepted, sample
from mutations import make, places

ROOT = Path(__file__).parents[2]
FAULTS, PACKAGE = ROOT / "scripts" / "faults", ROOT / "bihm"


def changes(source):
    """What each fault of a file makes of the lines that it changes."""
    module, found = places(libcst.parse_module(source))
    faults = [make(module, place) for place in found]
    return {" ".join(fault.added) for fault in faults if fault is not None}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("loss = W * p + (W - 1 / K) * q", "loss = W * p + W * q"),  # a term left out
        ("star = 2 * mean(half)", "star = mean(half)"),  # a factor
        ("log_w = where(live, log_w, dead)", "log_w = live"),
        ("live = arange(n) < K - i * n", "live = arange(n) < K"),
        ("sem = x.std(ddof=1) / n", "sem = x.std(ddof=2) / n"),
        ("sem = x.std(ddof=1) / n", "sem = x.std() / n"),
        ("number = first + arange(sweeps)", "number = arange(sweeps)"),
        ("order = permute(fold_in(key, epoch))", "order = permute(key)"),
        ("w = a if average is None else b", "w = a if (average is None) or True else b"),
        ("def f(x):\n    if x > 0:\n        g(x)\n", "if True:"),
        ("def f(x):\n    if x > 0:\n        g(x)\n", "if x >= 0:"),
        ("def f(x):\n    if x > 0:\n        g(x)\n", "pass"),
    ],
)
def test_a_sample_is_drawn_from_faults_of_every_kind(source, fault):
    assert fault in changes(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""A text of 2 lines."""',
        "import a.b",
        "def f(x: Float[Array, 3 + 1] | None) -> None: ...",
        "@partial(jit, static=(0, 1))\ndef f(): ...",
        "name = f'{2 * x}'",
        "def f(x):\n    log.info('%d', 2 * x)\n",
    ],
)
def test_what_is_for_people_and_types_is_left_alone(source):
    assert changes(source) <= {"pass"}


def test_a_seed_gives_the_same_faults_and_the_source_itself_is_none():
    first, second = (list(sample("machine/layer_sizes.py", seed)) for seed in (0, 0))
    assert first == second
    assert first != list(sample("machine/layer_sizes.py", 1))
    source = (PACKAGE / "machine" / "layer_sizes.py").read_text()
    assert source not in [fault.source for fault in first]
    assert len({fault.source for fault in first}) == len(first) > 10


def test_every_accepted_fault_is_one_of_its_module_and_has_a_reason():
    for key, reason in accepted().items():
        assert reason
        lines = [line.strip() for line in (PACKAGE / key.module).read_text().splitlines()]
        assert set(key.removed) <= set(lines), key
        assert isinstance(key, Key)


def test_each_module_has_tests_and_each_test_file_is_there():
    tests = ROOT / "tests"
    for module, names in TESTS.items():
        assert (PACKAGE / module).is_file(), module
        assert names
        assert [name for name in names if not (tests / name).is_file()] == []


def test_all_of_the_mathematics_has_faults_put_into_it():
    files = {
        path.relative_to(PACKAGE).as_posix()
        for floor in ("kernels", "machine")
        for path in (PACKAGE / floor).rglob("*.py")
        if len(path.read_text().splitlines()) > 1
    }
    assert files - set(TESTS) == NO_FAULTS


@pytest.mark.long
def test_the_command_tells_what_was_noticed():
    arguments = ["--modules", "machine/layer_sizes.py", "--most", "2", "--minutes", "5"]
    done = subprocess.run(
        [sys.executable, FAULTS / "mutants.py", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 of 2 noticed: 100.0 %"
