"""One row of each kind as a process of its own: all that a user sees, Python's and Hydra's output too."""

import os
import subprocess
import sys

import pytest
from malformed import SECONDS
from malformed_files import MADE
from processes import processor_seconds

ROWS = [
    ("train +foo=1", 2, "there is no key 'foo'"),
    ("train dataset=file dataset.path=bomb.npz", 3, "claims 1000000000000000 bytes"),
    ("train -m K=abc,3", 2, "K=abc: a whole number is due, got abc"),
    ("data import zero.csv --name mine", 3, "zero.csv: is no regular file"),
    ("evaluate run=nothing", 2, "run=nothing is not a run directory"),
    *(
        pytest.param(*row, marks=pytest.mark.long)
        for row in (
            ("train K=[1", 2, "'K=[1' cannot be read"),
            (
                "train hydra.run.dir=/dev/null/x",
                2,
                "/dev/null/x: nothing can be written there: Not a directory; choose another hydra.run.dir",
            ),
            ("train -m seed=0,1 hydra.sweep.dir=/proc/x", 2, "choose another hydra.sweep.dir"),
            ("train -m hydra.launcher._target_=os.system", 2, "Invalid plugin 'os.system'"),
            ("sample run=nothing n=abc", 2, "n must be a whole number, got 'abc'"),
        )
    ),
]


@pytest.mark.parametrize(("words", "code", "fragment"), ROWS)
def test_a_process_says_one_line_and_is_quick(words, code, fragment, tmp_path):
    for name in ("bomb.npz", "zero.csv"):
        MADE[name](tmp_path / name)
    before, start = sorted(tmp_path.rglob("*")), processor_seconds()
    command, *arguments = words.split()
    done = subprocess.run(
        [sys.executable, "-c", f"from bihm.cli.{command} import main; main()", *arguments],
        cwd=tmp_path,
        env=os.environ | {"BIHM_DATA": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert processor_seconds() - start < SECONDS
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("bihm-")
    assert fragment in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
