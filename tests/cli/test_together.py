"""`hydra/launcher=together` as a user gives it: one process, and each job as if it had run alone."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from compiled_programs import COMPILED

SWEEP = [
    *("-m", "dataset=bars", "layers=[6,3]", "batch_size=500", "stop.patience=null", "seed=0,1"),
    *("eval.final_K=5", "eval.final_z_outer=50", "hydra.sweep.dir=all"),
]
TOGETHER = "hydra/launcher=together"


def start(cwd, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "bihm.cli.train", *SWEEP, *words],
        cwd=cwd,
        env=os.environ | {"BIHM_CACHE": str(COMPILED / "cli")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_jobs_of_one_process_cannot_have_is_refused(tmp_path):
    process = start(tmp_path, TOGETHER, "hydra.job.chdir=true")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2, out
    assert err.startswith("bihm-train: hydra.job.chdir and hydra.job.env_set are of a process")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_each_job_has_its_directory_its_log_and_its_end(tmp_path):
    process = start(tmp_path, TOGETHER, "epochs=2", "K=3,0")
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert out.count("hydra/launcher=joblib is the better choice") == 1
    assert "2 of 4 jobs finished" in out
    assert "1-seed=0,K=0: failed: ConfigError: K must be at least 1" in out
    assert "\n0-seed=0,K=3: bihm on bars" in out
    for name in ("0-seed=0,K=3", "2-seed=1,K=3"):
        log = (tmp_path / "all" / name / "train.log").read_text()
        assert log.count("bihm on bars: 16-6-3") == log.count("stopped by epochs") == 1
    seconds = [
        json.loads((tmp_path / "all" / name / "results.json").read_text())["seed"]
        for name in ("0-seed=0,K=3", "2-seed=1,K=3")
    ]
    assert seconds == [0, 1]


@pytest.mark.long
def test_a_signal_reaches_all_and_another_launcher_goes_on(tmp_path):
    process = start(tmp_path, TOGETHER, "epochs=100000", "K=3")
    places = [tmp_path / "all" / name for name in ("0-seed=0", "1-seed=1")]
    while not all((place / "metrics.jsonl").is_file() for place in places):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 75, out
    assert err == "bihm-train: stopped by SIGTERM; the same command goes on from here\n"
    for place in places:
        assert json.loads((place / "status.json").read_text())["status"] == "interrupted"
    again = start(tmp_path, "epochs=100000", "K=3", "max_seconds=1")
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    assert out.count("going on from the checkpoint") == 2
    assert "2 of 2 jobs finished" in out
