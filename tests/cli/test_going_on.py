"""A sweep's command given again: what has finished is left; the rest runs, each job in its folder."""

import copy
import fcntl
import os
from itertools import product
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from malformed import attempt, home
from omegaconf import OmegaConf, open_dict, read_write

from bihm.cli import compose, going_on, sweep, sweep_table
from bihm.cli.job_config import job_config
from bihm.config import PhaseConfig, to_yaml
from bihm.errors import BihmError, ConfigError, NumbersError
from bihm.records.run_files import write_json, write_status, write_text
from bihm.run.training import own_rows, same_run

__all__ = ["home"]  # a fixture


def train(config, directory, interactive=False):
    """In the place of training; K=4 breaks."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "config.yaml", to_yaml(config))
    if config.K == 4:
        write_status(directory, "failed", "broke")
        raise NumbersError("broke")
    log_p = -1.0 * (config.K + config.seed)
    block = {"log_p": {"mean": log_p, "sem": 0.1}, "examples": 3, "K": 5, "ess_p": 1.0}
    progress = {"epochs": config.epochs, "steps": 1, "best_epoch": 1, "seconds": 0.5}
    ended = {"train": progress | {"stopped_by": "epochs"}, "valid": block, "test": block}
    write_json(directory / "results.json", ended)
    write_status(directory, "finished")
    return ended


@pytest.fixture(scope="module")
def composed():
    with compose._own_hydra():
        whole = compose._composed(["dataset=bars", "depth=2", "hydra.job.num=0"])
    with read_write(whole), open_dict(whole):  # what is copied for each job is to be small
        whole.hydra = OmegaConf.masked_copy(whole.hydra, ["job", "sweep", "overrides"])
    return whole


class Commands(Launcher):
    """Commands of `bihm-train -m`; Hydra takes 0.2 s to compose a job, so here it has one copied."""

    def __init__(self, composed, folder):
        self.composed, self.folder = composed, folder
        self.subdir = str(OmegaConf.to_container(composed.hydra.sweep, resolve=False)["subdir"])

    def load_sweep_config(self, master, words):
        job = copy.deepcopy(master)
        with read_write(job), open_dict(job):
            job.hydra.overrides.task = [word for word in words if not word.startswith("hydra.")]
            for word in job.hydra.overrides.task:
                OmegaConf.update(job, *word.split("=", 1))
        going_on.enlist(job, list(words), master)
        return job

    def setup(self, **hooks):
        pass

    def launch(self, job_overrides, initial_job_idx):
        """A launcher: the jobs are told their folders."""
        returned = []
        for words in job_overrides:
            *own, place = words
            assert place.startswith(going_on.PLACE)
            name = compose.OverridesParser.create().parse_override(place).value()
            job = self.load_sweep_config(self.master, list(words))
            self.launched.append((name, *own))
            returned.append(JobReturn(overrides=own, status=JobStatus.COMPLETED))
            try:
                config = job_config(OmegaConf.masked_copy(job, self.keys), own)
                returned[-1].return_value = train(config, self.folder / name)["valid"]
            except BihmError as error:
                returned[-1].return_value = str(error)
                self.folder.joinpath(name).mkdir(exist_ok=True)
        return returned

    def __call__(self, *given, subdir=None):
        """Give the command; folder and words of the jobs that were launched."""
        going_on.install()
        sweep.register()
        self.launched = []
        self.master = copy.deepcopy(self.composed)
        self.keys = [key for key in self.master if key != "hydra"]
        with read_write(self.master), open_dict(self.master):
            self.master.hydra.sweep.dir = str(self.folder)
            self.master.hydra.sweep.subdir = subdir or self.subdir
            self.master.hydra.overrides.task = list(given)
        values = [[(word, v) for v in word.split("=")[1].split(",")] for word in given]
        jobs = [[f"{w.split('=')[0]}={v}" for w, v in job] for job in product(*values)]
        remaining = going_on.Remaining(self)
        context = HydraContext(config_loader=self, callbacks=None)
        remaining.setup(hydra_context=context, task_function=train, config=self.master)
        self.returned = remaining.launch(jobs, 0)
        return self.launched


@pytest.fixture
def command(composed, tmp_path):
    (tmp_path / "all").mkdir()
    return Commands(composed, tmp_path / "all")


def test_what_has_finished_is_left_and_a_longer_list_finds_its_folders(command):
    assert command("seed=0,1", "K=2,3") == [
        ("0-seed=0,K=2", "seed=0", "K=2"), ("1-seed=0,K=3", "seed=0", "K=3"),
        ("2-seed=1,K=2", "seed=1", "K=2"), ("3-seed=1,K=3", "seed=1", "K=3"),
    ]  # fmt: skip
    order = [
        "0-seed=0,K=5", "0-seed=0,K=2", "1-seed=0,K=3", "3-seed=1,K=5", "2-seed=1,K=2", "3-seed=1,K=3",
    ]  # fmt: skip
    assert [name for name, *_ in command("seed=0,1", "K=5,2,3")] == [order[0], order[3]]
    assert [place.name for place in sweep.Folders.order] == order
    assert [place.name for place in sweep.Folders.left] == [*order[1:3], *order[4:]]
    assert [command.returned[i].return_value for i in (2, 5)] == [-3.0, -4.0]
    assert command("seed=0,1", "K=5,2,3") == []
    assert [place.name for place in sweep.Folders.left] == order


def test_one_value_that_becomes_several_finds_what_it_made_and_the_other_way_round(command):
    assert [name for name, *_ in command("seed=0", "K=5,6")] == ["0-K=5", "1-K=6"]
    grown = ["1-K=5,seed=1", "3-K=6,seed=1"]
    assert [name for name, *_ in command("K=5,6", "seed=0,1")] == grown
    assert [result.return_value for result in command.returned][::2] == [-5.0, -6.0]  # of before
    assert command("K=6", "seed=0,1") == []
    assert command("K=5", "seed=1") == []
    assert [name for name, *_ in command("K=7", "seed=1,2")] == ["0-seed=1", "1-seed=2"]


def test_failed_interrupted_and_missing_jobs_run_again_where_they_were(command):
    command("K=2,4,3,0")
    write_status(command.folder / "2-K=3", "interrupted")
    assert command("K=6,2,4,3,0") == [
        ("0-K=6", "K=6"), ("1-K=4", "K=4"), ("2-K=3", "K=3"), ("3-K=0", "K=0"),
    ]  # fmt: skip
    (command.folder / "2-K=3" / "results.json").unlink()
    (command.folder / "0-K=2" / "results.json").write_text("{")
    assert [name for name, _ in command("K=2,3")] == ["0-K=2", "2-K=3"]


def test_a_higher_limit_is_more_to_do_and_a_lower_one_is_not(command):
    command("seed=0,1", "epochs=20")
    assert command("seed=0,1", "epochs=10") == []
    assert [name for name, *_ in command("seed=0,1", "epochs=30")] == ["0-seed=0", "1-seed=1"]


def test_another_configuration_of_the_same_words_goes_to_the_same_folder_to_be_refused(command):
    command("seed=0,1", "K=2")
    assert [name for name, *_ in command("seed=1,0", "K=3")] == ["1-seed=1", "0-seed=0"]


@pytest.mark.long
@pytest.mark.parametrize("subdir", ["${hydra.job.num}", "it's ${hydra.job.num} [a]*/x,b"])
def test_a_folder_of_a_number_alone_is_found_by_what_it_holds(command, subdir):
    names = [subdir.replace("${hydra.job.num}", str(i)) for i in range(3)]
    assert command("K=2,3", subdir=subdir) == [(names[0], "K=2"), (names[1], "K=3")]
    assert command("K=5,2,3", subdir=subdir) == [(names[2], "K=5")]
    assert command("K=3,2,5", subdir=subdir) == []


@pytest.mark.long
def test_limits_in_a_list_are_told_apart(command):
    assert len(command("epochs=10,20", subdir="${hydra.job.num}")) == 2
    assert command("epochs=20,10", subdir="${hydra.job.num}") == []
    assert command("epochs=20,10,30", subdir="${hydra.job.num}") == [("2", "epochs=30")]


@pytest.mark.long
def test_words_that_are_cut_off_in_a_name_are_told_apart(command):
    longs = ["/".join(["x" * 9] * 9) + f"/{end}" for end in "abc"]
    for values, names in ((longs[:2], "01"), (longs, "2"), (longs, "")):
        launched = command(f"init.from={','.join(values)}", subdir="${hydra.job.num}-p")
        assert [name for name, _ in launched] == [f"{name}-p" for name in names]


def test_what_a_recipe_changes_is_no_reason_to_take_its_folder(composed, command):
    """Two recipes differ in any keys, so only an equal configuration is one's own."""
    command("K=2,3", subdir="${hydra.job.num}")
    config = job_config(OmegaConf.masked_copy(composed, command.keys), [])
    for K, swept, rank in ((2, {"experiment"}, 0), (5, {"experiment"}, None), (5, set(), 1)):
        config.K = K
        found = going_on._examine(command.folder, "0", config, swept)
        assert (None if found is None else found.rank) == rank


def test_equal_jobs_each_have_a_folder(command):
    assert [name for name, _ in command("K=5,5")] == ["0-K=5", "1-K=5"]
    assert command("K=5,5") == []
    assert [place.name for place in sweep.Folders.left] == ["0-K=5", "1-K=5"]


def test_a_folder_that_holds_the_run_is_better_than_one_of_the_number(command):
    assert command("K=0,3", subdir="${hydra.job.num}") == [("0", "K=0"), ("1", "K=3")]
    assert command("K=3,0", subdir="${hydra.job.num}") == [("0", "K=0")]


def test_jobs_of_one_folder_are_refused(command):
    with pytest.raises(ConfigError, match="several jobs would use the folder"):
        command("K=2,3", subdir="same")


def test_rows_of_a_file_are_looked_at(tmp_path, monkeypatch, composed):
    monkeypatch.chdir(tmp_path)
    rows, directory = tmp_path / "rows.csv", tmp_path / "run"
    rows.write_text("1,0,1\n0,1,1\n" * 10)
    keys = [key for key in composed if key != "hydra"]
    wanted = job_config(OmegaConf.masked_copy(composed, keys), [])
    wanted.dataset.name, wanted.dataset.path, wanted.dataset.image_shape = "file", str(rows), None
    wanted.dataset.n_features, wanted.layers = None, None
    ran = copy.deepcopy(wanted)  # as a run leaves it
    ran.dataset.n_features, ran.layers = 3, [3, 2]
    train(ran, directory)
    assert not same_run.nothing_to_do(ran, wanted, directory)  # it never noted its rows
    (directory / ".rows").write_text(own_rows._digest_of("file", str(rows)))
    assert same_run.nothing_to_do(ran, wanted, directory)
    rows.write_text("1,0,0\n0,1,1\n" * 10)
    own_rows._digest_of.cache_clear()
    assert not same_run.nothing_to_do(ran, wanted, directory)
    rows.unlink()
    own_rows._digest_of.cache_clear()
    assert not same_run.nothing_to_do(ran, wanted, directory)


def test_a_job_with_another_number_of_phases_is_left_to_train(tmp_path, composed):
    keys = [key for key in composed if key != "hydra"]
    ran = job_config(OmegaConf.masked_copy(composed, keys), [])
    train(ran, tmp_path / "run")
    assert same_run.nothing_to_do(ran, ran, tmp_path / "run")
    wanted = copy.deepcopy(ran)
    wanted.optim.phases = [PhaseConfig(K=1), PhaseConfig(K=2)]
    assert not same_run.nothing_to_do(ran, wanted, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"holds another run: optim\.phases was"):
        same_run.check_claim(wanted, tmp_path / "run")


@pytest.fixture
def command_line(home, monkeypatch):
    monkeypatch.setattr("bihm.run.train.train", train)
    monkeypatch.setattr("bihm.data.require", lambda name, path: None)

    def give(*words):
        start = ["bihm-train", "-m", "dataset=bars", "hydra.sweep.dir=all"]
        code, out, _, _ = attempt([*start, *words])
        return code, out[out.index(" finished in") - len("1 of 3 jobs") :].splitlines()

    return give


def test_seeds_are_averaged_in_a_table_of_their_own(composed, tmp_path):
    config = job_config(OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"]), [])
    config.layers, jobs = [6, 3], []
    for config.K, config.seed in ((2, 0), (2, 1), (2, 5), (3, 0)):
        jobs.append(tmp_path / f"{config.K}-{config.seed}")
        train(config, jobs[-1])
    lines = [line.split() for line in sweep_table.lines(jobs, tmp_path)]
    assert lines[0] == ["job", "K", "seed", "log_p", "log_p_star", "two_log_z"]
    assert lines[1][:6] == ["2-0", "2", "0", "-2.000", "+-", "0.100"]
    assert lines[5][:3] == ["mean", "over", "seeds"]
    assert lines[6] == ["K", "seeds", "log_p", "log_p_star", "two_log_z"]
    assert lines[7:] == [
        ["2", "3", "-4.000", "sd", "2.646", "-", "-"], ["3", "1", "-3.000", "sd", "?", "-", "-"],
    ]  # fmt: skip
    assert len(sweep_table.lines([jobs[0], jobs[3]], tmp_path)) == 3  # a seed of each: no mean


@pytest.mark.long
def test_a_command_given_again_tells_of_all_its_jobs(command_line):
    assert command_line("K=2,4")[0] == 1
    code, report = command_line("K=3,4,2")
    assert code == 1
    assert report[0] == f"2 of 3 jobs finished in {os.path.abspath('all')}"
    assert [line.split()[:2] for line in report[2:]] == [
        ["0-K=3", "3"], ["0-K=2", "2"], ["1-K=4:", "failed:"],
    ]  # fmt: skip
    assert command_line("K=3,2") == (0, [report[0].replace("of 3 jobs", "of 2 jobs"), *report[1:4]])
    assert sorted(os.listdir("all")) == ["0-K=2", "0-K=3", "1-K=4", "multirun.yaml"]
    assert not Path("all/.jobs").exists()


def test_a_sweep_that_another_command_makes_is_refused_and_left_alone(command_line):
    assert command_line("K=2,3")[0] == 0
    assert not Path("all/.jobs.lock").exists()
    Path("all/.jobs").mkdir()
    Path("all/.jobs/0.json").write_text("{}")
    with Path("all/.jobs.lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, out, err, _ = attempt(
            ["bihm-train", "-m", "dataset=bars", "hydra.sweep.dir=all", "K=2,5"]
        )
        assert (code, out) == (2, "")
        assert err.startswith(
            f"bihm-train: another command makes the sweep in {os.path.abspath('all')};"
        )
        assert err.endswith("or choose another hydra.sweep.dir\n")
        assert Path("all/.jobs/0.json").read_text() == "{}"
    assert command_line("K=2,5")[0] == 0  # the lock goes with the process that had it


@pytest.mark.long
def test_folders_that_only_a_job_can_name_stay_as_they_are(command_line):
    for _ in range(2):
        assert command_line("seed=3,4", "hydra.sweep.subdir=${hydra.job.id}-${seed}")[0] == 0
        assert sorted(os.listdir("all")) == ["0-3", "1-4", "mean-over-seeds", "multirun.yaml"]
