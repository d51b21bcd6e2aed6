"""A full disk ends a run with one line, and once there is room the same command goes on."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from compiled_programs import COMPILED
from small_run import EACH_EPOCH, assert_same_state, metrics, numbers, saved, tiny, without_clock

from bihm.errors import BihmError
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.run_files import write_bytes
from bihm.run.build import saved_like
from bihm.run.train import train

FULL = "No space left on device; make room there and run the same command again"


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system of so many KiB, or gives the mounted one that size."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size, *options):
        mount = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}k", *options]), "none", place]
        done = subprocess.run(mount, capture_output=True, check=False)
        if done.returncode:
            pytest.skip("mounting is not permitted here")
        return place

    yield resize
    subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


def assert_as_if_nothing_happened(run, uninterrupted):
    assert numbers(json.loads((run / "results.json").read_text())) == numbers(uninterrupted[1])
    assert_same_state(saved(run).latest, saved(uninterrupted[0]).latest)
    assert_same_state(saved(run).best, saved(uninterrupted[0]).best)
    assert without_clock(metrics(run)) == without_clock(metrics(uninterrupted[0]))


@pytest.mark.long
@pytest.mark.parametrize("size", [8, 60, 150, 260])
def test_a_run_on_a_small_disk_goes_on_when_there_is_room(disk, uninterrupted, size):
    run = disk(size) / "run"
    with pytest.raises(BihmError) as caught:
        train(tiny(**EACH_EPOCH), run)
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(str(run))
    assert str(caught.value).endswith(f": {FULL}")
    disk(4000, "remount")
    train(tiny(**EACH_EPOCH), run)
    assert_as_if_nothing_happened(run, uninterrupted)


@pytest.fixture
def full(monkeypatch):
    """A function that makes the n-th write to files of a name fail as on a full disk."""

    def fill(name, n=1):
        left = [n]

        def refuse(path):
            if name in Path(path).name:
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write, write_bytes = os.write, Path.write_bytes

        def refuse_or_write(descriptor, data):
            refuse(os.readlink(f"/proc/self/fd/{descriptor}"))
            return write(descriptor, data)

        def refuse_or_write_bytes(path, data):
            refuse(path)
            return write_bytes(path, data)

        monkeypatch.setattr(os, "write", refuse_or_write)
        monkeypatch.setattr(Path, "write_bytes", refuse_or_write_bytes)

    yield fill
    monkeypatch.undo()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="asks /proc for a file's name")
@pytest.mark.parametrize(
    ("name", "n"),
    [
        pytest.param("metrics.jsonl", 3, marks=pytest.mark.long),
        pytest.param("config.yaml", 1, marks=pytest.mark.long),
        pytest.param("tfevents.1", 9, marks=pytest.mark.long),
        pytest.param("results.json", 1, marks=pytest.mark.long),
        pytest.param("tfevents.0", 1, marks=pytest.mark.long),
        pytest.param("tfevents.9", 1, marks=pytest.mark.long),
    ],
)
def test_every_file_of_a_run_may_meet_a_full_disk(
    full, tmp_path, monkeypatch, uninterrupted, name, n
):
    full(name, n)
    with pytest.raises(BihmError) as caught:
        train(tiny(**EACH_EPOCH), tmp_path)
    assert caught.value.exit_code == 1
    path, _, reason = str(caught.value).partition(": ")
    assert Path(path).parent == tmp_path
    assert name in Path(path).name
    assert not Path(path).name.endswith("tmp")
    assert reason == FULL
    if name != "config.yaml":
        status = json.loads((tmp_path / "status.json").read_text())
        assert (status["status"], status["reason"]) == ("failed", f"BihmError: {caught.value}")
    monkeypatch.undo()
    train(tiny(**EACH_EPOCH), tmp_path)
    assert_as_if_nothing_happened(tmp_path, uninterrupted)
    assert not list(tmp_path.glob("*tmp*"))


def test_the_writer_in_the_background_reports_a_full_disk_and_keeps_what_was_saved(tmp_path, capfd):
    config = tiny()
    like = saved_like(config)[1]
    checkpoints = Checkpoints(tmp_path, config)
    checkpoints.save(Checkpoint(like, like, {"moment": 0}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # stands in for the disk
    try:
        checkpoints.save(Checkpoint(like, like, {"moment": 1}))
        with pytest.raises(OSError, match="too large") as caught:
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "checkpoints")
    checkpoints.close()
    again = Checkpoints(tmp_path, config)
    assert again.restore(like).memory == {"moment": 0}
    again.save(Checkpoint(like, like, {"moment": 2}))
    again.close()
    last = Checkpoints(tmp_path, config)
    assert last.restore(like).memory == {"moment": 2}
    last.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_the_command_line_says_it_in_one_line(disk):
    place = disk(400)
    command = [sys.executable, "-m", "bihm.cli.train", "dataset=bars", "layers=[6,3]", "epochs=40"]
    command += ["eval.every=1", "checkpoint.every_seconds=0", f"hydra.run.dir={place / 'run'}"]
    command += ["eval.final_K=5", "eval.final_z_outer=50", "batch_size=500"]

    def start():
        environment = os.environ | {"BIHM_CACHE": str(COMPILED / "cli")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    for _ in range(2):  # the second finds the disk still full
        done = start()
        assert done.returncode == 1
        assert done.stderr.startswith(f"bihm-train: {place / 'run'}")
        assert done.stderr.endswith(f": {FULL}\n")
        assert done.stderr.count("\n") == 1
    disk(8000, "remount")
    done = start()
    assert (done.returncode, done.stderr) == (0, "")
    assert "going on from the checkpoint of step" in done.stdout


def test_a_refused_file_is_named_and_not_the_one_that_was_to_become_it(tmp_path):
    (tmp_path / "a file").touch()
    with pytest.raises(OSError, match="Not a directory") as caught:
        write_bytes(tmp_path / "a file" / "x.json", b"{}")
    assert caught.value.filename == str(tmp_path / "a file" / "x.json")
