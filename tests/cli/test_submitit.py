"""Sweeps under submitit: on this machine, and on a SLURM of stand-ins that preempts and requeues."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
pytestmark = pytest.mark.long

SWEEP = [
    *("-m", "dataset=bars", "layers=[6,3]", "batch_size=50", "seed=0,1", "stop.patience=null"),
    *("eval.final_K=5", "eval.final_z_outer=50", "hydra.sweep.dir=all"),
]

# What submitit needs of SLURM. A job runs again for as long as somebody asks to requeue it.
STAND_IN = {
    "sbatch": """
        export SLURM_ARRAY_JOB_ID=123 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0
        export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_JOB_NODELIST=here
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        for task in $(seq 0 "$last"); do
          (
            export SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=12${task}
            while true; do
              bash "$1" || true
              [ -e "$STAND_IN/requeue.123_$task" ] || break
              mv "$STAND_IN/requeue.123_$task" "$STAND_IN/requeued.123_$task"
            done
            touch "$STAND_IN/done.123_$task"
          ) >"$STAND_IN/log.$task" 2>&1 </dev/null &
        done
        echo "Submitted batch job 123"
    """,
    "srun": """
        while [ "${1#--}" != "$1" ]; do
          case $1 in --output|--error) shift 2 ;; *) shift ;; esac
        done
        exec "$@"
    """,
    "scontrol": '[ "$1" = requeue ] && touch "$STAND_IN/requeue.$2"',
    "sacct": """
        echo "JobID|State|NodeList"
        for task in 0 1; do
          if [ -e "$STAND_IN/done.123_$task" ]; then state=COMPLETED; else state=RUNNING; fi
          echo "123_$task|$state|here"
        done
    """,
}


@pytest.fixture
def environment(tmp_path):
    """Stand-in commands first on the path, and one cache for all processes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STAND_IN.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (folder / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "STAND_IN": str(folder),
        "BIHM_CACHE": str(tmp_path / "cache"),
    }


def start(cwd, environment, *arguments, words=SWEEP):
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "bihm.cli.train", *words, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process):
    while not path.is_file() or not path.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def numbers(directory):
    results = json.loads((directory / "results.json").read_text())
    del results["train"]["seconds"]
    return results


@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_a_launcher_runs_a_sweep_on_this_machine(launcher, tmp_path, environment):
    process = start(tmp_path / "local", environment, f"hydra/launcher={launcher}", "epochs=2")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "2 of 2 jobs finished" in out


def test_the_tasks_of_a_job_train_one_run_together(tmp_path, environment):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["hydra.launcher.tasks_per_node=2", f"distributed.coordinator=127.0.0.1:{port}"]
    words += [word.replace("seed=0,1", "seed=3") for word in SWEEP]
    folder = tmp_path / "two"
    process = start(folder, environment, "hydra/launcher=submitit_local", "epochs=2", words=words)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "1 of 1 jobs finished" in out
    (results,) = (tmp_path / "two" / "all").glob("*/results.json")
    assert [place["devices"] for place in json.loads(results.read_text())["arithmetic"]] == [2]
    log = (results.parent / "train.log").read_text()
    assert log.count("on 2 x cpu") == 1  # the first task alone tells


def test_a_preempted_job_is_requeued_and_goes_on_in_its_own_directory(tmp_path, environment):
    """SIGTERM, then USR2, as SLURM preempts: saved, requeued, and in the end as if nothing had been."""
    epochs = "epochs=60"
    peaceful = start(tmp_path / "peaceful", environment, epochs)
    process = start(tmp_path / "slurm", environment, epochs, "hydra/launcher=submitit_slurm")
    job = tmp_path / "slurm" / "all" / "1-seed=1"
    wait_for(job / "metrics.jsonl", process)
    first = json.loads((job / "status.json").read_text())
    for number in (signal.SIGTERM, signal.SIGUSR2):
        os.kill(first["pid"], number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "2 of 2 jobs finished" in out
    assert (tmp_path / "bin" / "requeued.123_1").is_file()
    last = json.loads((job / "status.json").read_text())
    assert last["status"] == "finished"
    assert last["pid"] != first["pid"]
    assert "going on from the checkpoint" in (job / "train.log").read_text()
    peaceful.communicate(timeout=300)
    for name in ("0-seed=0", "1-seed=1"):
        ours, theirs = (tmp_path / place / "all" / name for place in ("slurm", "peaceful"))
        assert numbers(ours) == numbers(theirs)


def test_ctrl_c_ends_a_sweep_and_the_same_command_goes_on(tmp_path, environment):
    process = start(tmp_path / "here", environment, "epochs=60")
    wait_for(tmp_path / "here" / "all" / "0-seed=0" / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 75
    assert err == "bihm-train: stopped by SIGINT; the same command goes on from here\n"
    assert "0-seed=0: interrupted: stopped by SIGINT" in out
    assert not (tmp_path / "here" / "all" / "1-seed=1").exists()
    again = start(tmp_path / "here", environment, "epochs=60")
    out, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, "")
    assert "going on from the checkpoint" in out
    assert "2 of 2 jobs finished" in out
