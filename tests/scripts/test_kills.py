"""A short form of `scripts/faults/kills.py`: signals at random moments, in real processes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "faults" / "kills.py"


@pytest.mark.long
def test_no_signal_at_any_moment_changes_how_a_run_ends():
    arguments = ["--kills", "7", "--signals", "KILL,TERM,HUP,INT,USR2,INT+INT,USR1", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"7 signals .* 0 mismatches", done.stdout)
