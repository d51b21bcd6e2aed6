"""Two processes over the loopback interface train one run: as one would, and when one of them goes."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
from compiled_programs import COMPILED

pytestmark = pytest.mark.long

WORDS = [
    *("dataset=bars", "layers=[6,3]", "K=4", "batch_size=250", "stop.patience=null", "eval.K=5"),
    *("eval.final_K=15", "eval.z_outer=400", "eval.final_z_outer=800", "eval.z_inner=5"),
    *("checkpoint.every_seconds=0", "hydra.run.dir=run"),
]
SOON = 300  # seconds, on a busy machine; a heartbeat is missed after 30
ENDED = "another process of this run has ended; the same command goes on from the last checkpoint"
PROGRAM = [sys.executable, "-m", "bihm.cli.train"]
QUIET = dict.fromkeys(("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "XLA_FLAGS"), "")
ENVIRONMENT = os.environ | QUIET | {"BIHM_CACHE": str(COMPILED / "cli")}
FIRST_PORT, PORTS = 61440, 4096  # of those that jax makes of the number of a job


def free_job():
    """The number of a job whose port is free."""
    for job in random.sample(range(PORTS), PORTS):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", FIRST_PORT + job))
            return job
    raise AssertionError("no port is free")


def slurm():
    """What srun tells two tasks on this machine."""
    return {
        "SLURM_JOB_ID": str(free_job()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "{}",
        "SLURM_LOCALID": "{}",
    }


def open_mpi():
    """What mpirun tells two processes on this machine."""
    return {
        "OMPI_MCA_orte_hnp_uri": f"{free_job() * 4096}.0;tcp://127.0.0.1:9",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": "{}",
        "OMPI_COMM_WORLD_LOCAL_RANK": "{}",
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, *words, processes=2, environment=None):
    """The processes of one command, the first one first; their output goes to files."""
    port, started = free_port(), []
    for i in range(processes):
        several = [f"distributed.coordinator=127.0.0.1:{port}", f"distributed.process={i}"]
        several += [f"distributed.processes={processes}"]
        if environment is not None:  # of a launcher, which jax asks
            several = []
        with (folder / f"out{i}").open("w") as out, (folder / f"err{i}").open("w") as err:
            started.append(
                subprocess.Popen(
                    [*PROGRAM, *WORDS, *(word.format(i) for word in words), *several]
                    if processes > 1
                    else [*PROGRAM, *WORDS, *words],
                    cwd=folder,
                    env=ENVIRONMENT | {k: v.format(i) for k, v in (environment or {}).items()},
                    stdout=out,
                    stderr=err,
                )
            )
    return started


def codes(started):
    try:
        return [process.wait(SOON) for process in started]
    finally:
        for process in started:
            process.kill()


def said(folder, name):
    """Our lines: gloo and absl have some of their own."""
    lines = (folder / name).read_text().splitlines()
    return [line for line in lines if line.startswith("bihm-train: ")]


def wait_for_saved(folder, started, beyond):
    """Until there is a checkpoint beyond that number; returns the newest."""
    while True:
        found = [
            int(p.name) for p in (folder / "run/checkpoints").glob("*[0-9]") if p.name.isdecimal()
        ]
        if found and max(found) > beyond:
            return max(found)
        for i, process in enumerate(started):
            assert process.poll() is None, (folder / f"err{i}").read_text()
        time.sleep(0.05)


def close(ours, theirs):
    return abs(ours["mean"] - theirs["mean"]) < theirs["sem"] / 100


@pytest.mark.parametrize("launcher", [slurm, open_mpi])
def test_two_processes_end_as_one_and_the_first_one_writes(launcher, uninterrupted, tmp_path):
    """Found without an argument, in default folders: the first one's is that of both."""
    assert codes(start(tmp_path, "epochs=4", "eval.every=1", environment=launcher())) == [0, 0]
    two = json.loads((tmp_path / "run/results.json").read_text())
    assert two["arithmetic"][0]["devices"] == 2
    for split in ("valid", "test"):
        for name in ("log_p", "log_p_star"):
            assert close(two[split][name], uninterrupted[1][split][name])
    assert "best epoch" in (tmp_path / "out0").read_text()
    lines = (tmp_path / "out1").read_text().splitlines()
    assert [line for line in lines if not line.startswith("[Gloo]")] == []
    assert len(list((tmp_path / "run").glob("events.out.tfevents.1*"))) == 1
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["err0", "err1", "out0", "out1", "run"]
    again = start(
        tmp_path, "epochs=4", "eval.every=1", environment=launcher()
    )  # finished: nothing is done
    assert codes(again) == [0, 0]
    assert "has finished already" in (tmp_path / "out0").read_text()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "without a heartbeat"]
)
def test_a_process_that_goes_ends_the_others_and_the_command_goes_on(tmp_path, number):
    saved, words = -1, ("epochs=100000", "eval.every=50")
    for victim in (1, 0):
        if number == signal.SIGSTOP and victim == 0:
            continue  # the same to the other one as a first process that is killed
        started = start(tmp_path, *words)
        saved = wait_for_saved(tmp_path, started, saved)
        began = time.monotonic()
        started[victim].send_signal(number)
        other = started[1 - victim]
        assert other.wait(SOON) == 75, (tmp_path / f"err{1 - victim}").read_text()
        assert time.monotonic() - began < SOON
        assert said(tmp_path, f"err{1 - victim}")[-1] == f"bihm-train: {ENDED}"
        started[victim].kill()
        codes(started)
    (alone,) = start(tmp_path, *words, "max_seconds=0.1", processes=1)
    assert alone.wait(SOON) == 0, (tmp_path / "err0").read_text()
    told = (tmp_path / "out0").read_text()
    assert "going on from the checkpoint of step" in told
    assert "devices was 2, now 1: from here on the numbers are not, bit for bit" in told


def test_a_signal_to_one_stops_both_at_the_same_step(tmp_path):
    started = start(tmp_path, "epochs=100000", "eval.every=50")
    saved = wait_for_saved(tmp_path, started, -1)
    started[1].send_signal(signal.SIGTERM)
    assert codes(started) == [75, 75]
    for name in ("err0", "err1"):
        assert said(tmp_path, name) == [
            "bihm-train: stopped by SIGTERM; the same command goes on from here"
        ]
    assert json.loads((tmp_path / "run/status.json").read_text())["status"] == "interrupted"
    more = start(tmp_path, "epochs=100000", "eval.every=50", "devices=2", "batch_size=250")
    for process in more:  # of one device each
        assert process.wait(SOON) == 2
    assert "devices=2, but one is here (cpu)" in said(tmp_path, "err1")[0]
    again = start(tmp_path, "epochs=100000", "eval.every=50", "max_seconds=0.1")
    assert codes(again) == [0, 0]
    assert "going on from the checkpoint of step" in (tmp_path / "out0").read_text()
    assert saved >= 0


def test_processes_of_different_commands_do_not_train_together(tmp_path):
    assert codes(start(tmp_path, "seed={}")) == [75, 2]
    told = "this process was given another command than the first one of its run"
    assert said(tmp_path, "err1")[-1] == f"bihm-train: {told}"


def test_what_ends_the_first_one_before_it_begins_is_told_by_both(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.json").write_text("{}")
    assert codes(start(tmp_path)) == [2, 2]
    for name in ("err0", "err1"):
        assert "holds the results of a run but not its config.yaml" in said(tmp_path, name)[-1]
