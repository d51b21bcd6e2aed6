"""Where eval, sample and export write; what cannot be written is refused before the work."""

import errno
import json
import shutil
import subprocess

import numpy as np
import pytest

from bihm.cli import evaluate, export, sample
from bihm.run.estimates import splits
from bihm.run.samples import sampler

COMMANDS = {  # the words, the ending, and the file's default name
    "eval": (evaluate, ["K=5", "per_example=true"], ".json", "eval-test-K5.json"),
    "sample": (sample, ["n=5"], ".npz", "samples-ancestral.npz"),
    "export": (export, [], ".safetensors", "weights.safetensors"),
}


@pytest.fixture(scope="module")
def run(uninterrupted, tmp_path_factory):
    return shutil.copytree(uninterrupted[0], tmp_path_factory.mktemp("out") / "run")


@pytest.fixture
def command(shell, run):
    def command(name, *words):
        return shell(COMMANDS[name][0], f"run={run}", *COMMANDS[name][1], *words)

    return command


@pytest.fixture
def no_work(monkeypatch):
    """Whoever computes anything fails."""
    for module, name in (
        (splits, "estimate_tile"),
        (splits, "log_z_tile"),
        (sampler, "_ancestral"),
    ):
        monkeypatch.setattr(module, name, None)
    monkeypatch.setattr("bihm.records.weights.save", None)


@pytest.mark.parametrize("name", COMMANDS)
def test_out_is_a_file_or_a_folder(command, run, tmp_path, name):
    ending, default = COMMANDS[name][2:]
    file = tmp_path / f"mine (1), a=b{ending or '.safetensors'}"
    for out, made in ((file, file), (tmp_path, tmp_path / default)):
        before = set(run.iterdir())
        assert command(name, f"out={out}")[::2] == (0, "")
        assert made.is_file()
        assert set(run.iterdir()) == before
    if name == "eval":
        assert json.loads(file.read_text())["K"] == 5
        with np.load(file.with_suffix(".npz")) as arrays:
            assert arrays["log_p"].shape == (5000,)
    if name == "sample":
        assert file.with_suffix(".png").is_file()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_out_that_makes_no_sense_is_refused_before_the_work(command, no_work, tmp_path, name):
    ending, default = COMMANDS[name][2:]
    (tmp_path / default).mkdir()
    cases = [(f"{tmp_path}/a/b{ending or '.x'}", "there is no folder"), (tmp_path, "is a folder")]
    if ending:
        cases.append((tmp_path / "a.txt", f"must end in {ending}, or be a folder"))
    for out, message in cases:
        code, shown, error = command(name, f"out={out}")
        assert (code, shown, error.count("\n")) == (2, "", 1)
        assert message in error


@pytest.fixture
def sealed(run, tmp_path):
    """A folder on a file system that only reads, with a copy of the run in it."""
    place = tmp_path / "sealed"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "none", place]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    shutil.copytree(run, place / "run")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(command, no_work, sealed, name):
    code, shown, error = command(name, f"out={sealed}")
    program = f"bihm-{name}"
    assert (code, shown) == (2, "")
    why = "nothing can be written there: Read-only file system; choose another out="
    assert error == f"{program}: {sealed}: {why}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_of_a_folder_that_says_so_itself(command, no_work, monkeypatch, tmp_path, name):
    def refuse(dir):
        raise OSError(errno.EACCES, "Permission denied", f"{dir}/tmpx8j2")

    monkeypatch.setattr("bihm.records.run_files.tempfile.TemporaryFile", refuse)
    code, shown, error = command(name, f"out={tmp_path}")
    assert (code, shown) == (2, "")
    why = "nothing can be written there: Permission denied; choose another out="
    assert error == f"bihm-{name}: {tmp_path}: {why}\n"


def test_numbers_are_shown_whatever_becomes_of_their_file(command, monkeypatch, tmp_path):
    expected = command("eval", f"out={tmp_path}")[1]

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("bihm.run.estimates.estimate_files.write_json", full)
    code, shown, error = command("eval", f"out={tmp_path}")
    numbers, *files = expected.splitlines()
    file = tmp_path / COMMANDS["eval"][3]
    assert files == [str(file), str(file.with_suffix(".npz"))]
    assert (code, shown) == (1, f"{numbers}\n")
    assert numbers.startswith("test  5000 rows, K=5:  log_p -")
    why = "No space left on device; make room there and run the same command again"
    assert error == f"bihm-eval: {file}: {why}\n"


@pytest.mark.parametrize(
    ("name", "beside"), [("eval", ".npz"), ("sample", ".png"), ("sample", ".gif")]
)
def test_nothing_is_written_beside_out_over_what_is_not_its_own(
    command, no_work, tmp_path, name, beside
):
    out = tmp_path / f"rows{COMMANDS[name][2]}"
    out.with_suffix(beside).write_text("mine")
    code, shown, error = command(name, f"out={out}")
    assert (code, shown) == (2, "")
    why = f"rows{beside} is there, but no {out.name} that it belongs to; choose another out="
    assert error == f"bihm-{name}: {tmp_path}/{why}\n"
    assert out.with_suffix(beside).read_text() == "mine"


def test_what_a_command_reads_is_not_written_over(command, no_work, tmp_path):
    rows, mask = tmp_path / "rows.npz", tmp_path / "mask.npz"
    np.savez(rows, train=np.eye(16, dtype=np.uint8), valid=np.eye(16), test=np.eye(16))
    np.savez(mask, np.arange(16) < 8)
    (tmp_path / "rows.json").write_text("{}")  # estimates of before, with the data beside them
    before = rows.read_bytes()
    code, _, error = command("eval", f"dataset={rows}", f"out={tmp_path}/rows.json")
    assert (code, error) == (2, f"bihm-eval: {rows} is read by this command; choose another out=\n")
    code, _, error = command("sample", f"mask={mask}", f"out={tmp_path}/mask.npz")
    assert (code, error) == (
        2,
        f"bihm-sample: {mask} is read by this command; choose another out=\n",
    )
    assert rows.read_bytes() == before


def test_weights_are_not_written_over_by_their_own_estimates(shell, run, tmp_path):
    export.main([f"run={run}", f"out={tmp_path}/w.safetensors"])
    weights = (tmp_path / "w.safetensors").rename(tmp_path / "w.json")
    before = weights.read_bytes()
    code, _, error = shell(evaluate, f"weights={weights}", "K=5", f"out={weights}")
    told = f"bihm-eval: {weights} is read by this command; choose another out=\n"
    assert (code, error, weights.read_bytes()) == (2, told, before)


def test_an_export_replaces_neither_data_nor_what_the_run_started_from(shell, run, tmp_path):
    own = shutil.copytree(run, tmp_path / "run")
    (tmp_path / "rows.csv").write_text("mine")
    start = tmp_path / "start.safetensors"
    start.write_text("mine")
    text = (own / "config.yaml").read_text()
    assert "from: null" in text
    (own / "config.yaml").write_text(text.replace("from: null", f"from: {start}"))
    for out, why in ((start, "is read by this command"), ("rows.csv", "must end in .safetensors")):
        code, _, error = shell(export, f"run={own}", f"out={tmp_path / out}")
        assert (code, why in error, (tmp_path / out).read_text()) == (2, True, "mine")


@pytest.mark.parametrize("name", ["sample", "export"])
def test_in_another_folder_nothing_of_another_run_is_replaced(command, run, tmp_path, name):
    file = tmp_path / COMMANDS[name][3]
    assert command(name, f"out={tmp_path}")[0] == 0
    before = file.read_bytes()
    code, _, error = command(name, f"out={tmp_path}")
    why = "is there and may be another run's; name the file itself in out="
    assert (code, error) == (2, f"bihm-{name}: {file} {why}\n")
    assert file.read_bytes() == before
    assert command(name, f"out={file}")[0] == 0  # by its name it is
    for _ in range(2):  # as in its own folder
        assert command(name, f"out={run}")[0] == 0
