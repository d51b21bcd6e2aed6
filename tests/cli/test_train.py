"""`bihm-train` as a user types it, in a process and a directory of its own."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from compiled_programs import COMPILED
from processes import processor_seconds

TINY = [
    *("dataset=bars", "layers=[6,3]", "epochs=2", "batch_size=500"),
    *("eval.final_K=5", "eval.final_z_outer=50"),
]


def python(cwd, *arguments, **environment):
    # One cache for the session: these processes compile the same programs.
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"BIHM_CACHE": str(COMPILED / "cli")} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train(cwd, *arguments, **environment):
    return python(cwd, "-m", "bihm.cli.train", *arguments, **environment)


ANSWERS = [
    (["--help"], 0),
    (["--cfg", "job"], 0),
    (["dpeth=12"], 2),
    (["K=0"], 2),
    (["dataset=file", "dataset.path=nothing.npy"], 3),
]
QUICK = (ANSWERS[0], ANSWERS[-1])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [*QUICK, *(pytest.param(*a, marks=pytest.mark.long) for a in ANSWERS if a not in QUICK)],
)
def test_help_and_errors_answer_before_jax_is_imported(tmp_path, arguments, code):
    done = train(tmp_path, *arguments, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == code
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra.main" in imported
    slow = {"jax", "flax", "orbax.checkpoint", "scipy", "tensorboard", "matplotlib"}
    slow |= {"numpy"} if code != 3 else set()  # who looks for data needs it
    assert not slow & imported
    assert os.listdir(tmp_path) == []


def cost(cwd, *arguments):
    before = processor_seconds()
    python(cwd, *arguments)
    return processor_seconds() - before


@pytest.mark.long
def test_help_and_errors_take_little_more_than_hydra_does(tmp_path):
    hydra = ("-c", "import hydra.main")
    answers = [("-m", "bihm.cli.train", *words) for words, _ in QUICK]
    rounds = [[cost(tmp_path, *words) for words in (hydra, *answers)] for _ in range(3)]
    floor, *costs = np.min(rounds, axis=0)
    assert max(costs) < 6 * floor, (floor, costs)  # 4 on an idle machine


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["dataset=adult", "hydra.run.dir=a/b"], 3, "bihm-data fetch adult"),
        pytest.param(
            *(["dpeth=12"], 2, "bihm-train: there is no key 'dpeth'; did you mean 'depth'?\n"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(["layers=[3]", "depth=2"], 2, "disagrees with the 1 sizes of layers=[3]"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_mistake_gets_one_line_an_exit_code_and_no_directory(tmp_path, arguments, code, says):
    done = train(tmp_path, *arguments, BIHM_DATA=str(tmp_path / "nothing"))
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.startswith("bihm-train: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert os.listdir(tmp_path) == []


REFUSED = ["-m", *TINY, "hydra.sweep.dir=all"]


@pytest.mark.long
def test_a_sweep_reports_its_own_jobs_and_no_others(tmp_path):
    """Refused ones only: nothing is trained. Another sweep's job lies in the folder already."""
    old = tmp_path / "all" / "7"
    old.mkdir(parents=True)
    (old / "status.json").write_text('{"status": "finished", "reason": ""}')
    done = train(tmp_path, *REFUSED, "K=0,-1", "hydra.sweep.subdir=${model.name}/K${K}")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-3:] == [
        f"0 of 2 jobs finished in {tmp_path / 'all'}",
        "bihm/K0: failed: ConfigError: K must be at least 1, got 0",
        "bihm/K-1: failed: ConfigError: K must be at least 1, got -1",
    ]
    assert json.loads((tmp_path / "all/bihm/K0/status.json").read_text())["status"] == "failed"
    assert not (tmp_path / "all" / ".jobs").exists()


@pytest.mark.long
def test_a_job_refused_for_the_run_that_is_there_counts_as_failed(tmp_path):
    other = tmp_path / "all" / "0"
    other.mkdir(parents=True)
    (other / "status.json").write_text('{"status": "finished", "reason": ""}')
    done = train(tmp_path, *REFUSED, "K=0")
    assert done.returncode == 1
    assert "0 of 1 jobs finished" in done.stdout
    assert json.loads((other / "status.json").read_text())["status"] == "finished"


@pytest.mark.long
@pytest.mark.parametrize("busy", [True, False], ids=["of a run that starts", "of the user's"])
def test_a_refused_run_leaves_a_directory_that_was_there(tmp_path, busy):
    run = tmp_path / "deep" / "run"
    run.mkdir(parents=True)
    if busy:
        (run / "train.log").touch()
    done = train(tmp_path, *TINY, "K=0", "hydra.run.dir=deep/run")
    assert done.returncode == 2
    assert os.listdir(run) == (["train.log"] if busy else [])


@pytest.mark.long
@pytest.mark.parametrize("chdir", ["true", "false"])
def test_a_file_is_looked_for_where_the_user_is(tmp_path, chdir):
    (tmp_path / "rows.csv").write_text("1,0,1\n" * 10)
    here = ["dataset=file", "dataset.path=rows.csv", f"hydra.job.chdir={chdir}", "batch_size=11"]
    done = train(tmp_path, *here)
    assert "batch_size=11 is larger than the 8 training rows of file" in done.stderr


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("sweep")
    done = train(cwd, "-m", *TINY, "K=3,0", "seed=1,2", "hydra.sweep.dir=all")
    return cwd / "all", done


@pytest.mark.long
def test_a_sweep_goes_on_after_a_failed_job_and_says_what_failed(sweep):
    folder, done = sweep
    assert done.returncode == 1
    end = done.stdout[done.stdout.index("2 of 4 jobs finished") :].splitlines()
    assert end[1].split()[:2] == ["job", "seed"]
    assert [line.split()[:2] for line in end[2:4]] == [
        ["0-K=3,seed=1", "1"],
        ["1-K=3,seed=2", "2"],
    ]
    failed = ["2-K=0,seed=1", "3-K=0,seed=2"]
    assert [line for line in end if "failed:" in line] == [
        f"{job}: failed: ConfigError: K must be at least 1, got 0" for job in failed
    ]
    assert "Traceback" not in done.stderr
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {
        *("0-K=3,seed=1", "1-K=3,seed=2", *failed, "mean-over-seeds"),
    }


@pytest.mark.long
def test_jobs_of_a_sweep_differ_as_their_seeds_do(sweep):
    folder, _ = sweep
    jobs = [folder / name for name in ("0-K=3,seed=1", "1-K=3,seed=2")]
    a, b = (json.loads((job / "results.json").read_text()) for job in jobs)
    assert a["test"]["log_p"] != b["test"]["log_p"]
    assert "\x1b" not in (jobs[0] / "train.log").read_text()


@pytest.mark.long
def test_the_default_directory_is_dated_to_the_microsecond(tmp_path):
    done = train(tmp_path, *TINY, "K=3")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "outputs" / "bars" / "bihm-d2").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", run.name)
    log = (run / "train.log").read_text()
    assert "bihm on bars: 16-6-3" in log
    assert "stopped by epochs" in log
    assert list((COMPILED / "cli" / "jax").rglob("*-cache"))


@pytest.mark.long
def test_an_imported_dataset_can_be_named(tmp_path):
    rows = "\n".join(",".join("01"[(i >> b) & 1] for b in range(5)) for i in range(32))
    (tmp_path / "mine.csv").write_text(rows)
    environment = os.environ | {"BIHM_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "bihm.cli.data", "import", "mine.csv", "--name", "mine"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    cache = {"BIHM_CACHE": str(tmp_path / "cache")}
    done = train(tmp_path, "dataset=mine", "--cfg", "job", "--resolve", **cache)
    assert "n_features: 5" in done.stdout
