"""The tour of the door: it runs, in a folder of its own, and says what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOUR = Path(__file__).parents[2] / "scripts" / "tour.py"


@pytest.mark.long
def test_the_tour_runs_and_reads_well(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TOUR), str(tmp_path / "runs")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["bihm", "rws"]
    titles = [cell.partition("\n")[0] for cell in TOUR.read_text().split("# %% ")[1:]]
    assert all(title.endswith(".") or "Where" in title for title in titles)  # each says its point
    for words in ("test log p", "2 log Z", "samples of p*", "completed", "did you mean 'depth'?"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    halves = done.stdout.split("\n\n")
    (upper,) = (part for part in halves if part.startswith("their upper halves"))
    (completed,) = (part for part in halves if part.startswith("completed"))
    assert upper.splitlines()[1:5] == completed.splitlines()[1:5]
    assert upper.splitlines()[5:] != completed.splitlines()[5:]
