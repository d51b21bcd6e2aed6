"""Which process of a run this is: by its configuration, or by what a launcher tells it."""

import pytest
from cases import rare
from malformed import check, home

import bihm
from bihm.cli.follower import config_of
from bihm.config import DistributedConfig
from bihm.config.processes import ALONE, LAUNCHERS, Place, find_place
from bihm.errors import ConfigError

__all__ = ["home"]  # a fixture

SLURM = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
SUBMITIT = {"SUBMITIT_LOCAL_NTASKS": "2", "SUBMITIT_LOCAL_GLOBALID": "1"}


@pytest.fixture
def environment(monkeypatch):
    """Tells what a launcher would tell, and nothing else."""

    def tell(said):
        for names in LAUNCHERS.values():
            for name in names:
                monkeypatch.delenv(name, raising=False)
        for name, value in said.items():
            monkeypatch.setenv(name, value)

    tell({})
    return tell


@pytest.mark.parametrize(
    ("said", "given", "place"),
    [
        ({}, {}, ALONE),
        ({}, {"coordinator": "a:1", "processes": 2, "process": 1}, Place(2, 1, "")),
        ({}, {"processes": 1}, ALONE),
        (SLURM, {}, Place(3, 2, "SLURM")),
        (SLURM, {"processes": 1}, ALONE),  # each task a run of its own
        (SLURM, {"coordinator": "a:1", "processes": 4, "process": 0}, Place(4, 0, "SLURM")),
        (OPEN_MPI, {}, Place(2, 0, "Open MPI")),
        (SUBMITIT, {"coordinator": "a:1"}, Place(2, 1, "submitit")),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, {}, ALONE),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {}, ALONE),  # a batch script, without srun
        ({"SLURM_STEP_NUM_TASKS": "many", "SLURM_PROCID": "0"}, {}, ALONE),
    ],
)
def test_the_configuration_says_so_or_else_the_launcher(said, given, place, environment):
    environment(said)
    assert find_place(DistributedConfig(**given)) == place


@pytest.mark.parametrize(
    ("said", "given", "told"),
    [
        ({}, {"processes": 2, "coordinator": "a:1"}, "nothing says which one this is"),
        (
            {},
            {"processes": 2, "process": 2, "coordinator": "a:1"},
            "is none of 2 processes, 0 .. 1",
        ),
        ({}, {"processes": 2, "process": 0}, "distributed.coordinator=HOST:PORT"),
        ({}, {"process": 1}, "distributed.processes=N"),
        ({}, {"coordinator": "a:1"}, "distributed.processes=N"),
        (SUBMITIT, {}, "distributed.coordinator=HOST:PORT"),
    ],
)
def test_what_is_not_enough_dies_in_one_line(said, given, told, environment):
    environment(said)
    with pytest.raises(ConfigError, match=r"^distributed\.|^\d processes") as caught:
        find_place(DistributedConfig(**given))
    assert told in str(caught.value)


def test_only_the_first_process_is_an_app_of_hydras(environment):
    words = ["dataset=bars", "epochs=3", "hydra.job.chdir=false", "distributed.coordinator=a:1"]
    assert config_of(["dataset=bars"]) is None
    assert config_of([*words, "distributed.processes=2", "distributed.process=0"]) is None
    follower = config_of([*words, "distributed.processes=2", "distributed.process=1"])
    assert follower is not None
    assert (follower.epochs, follower.dataset.name) == (3, "bars")
    environment(SLURM)
    assert config_of(["dataset=bars"]) is not None
    assert config_of(["dataset=bars", "distributed.processes=1"]) is None
    assert config_of(["--cfg", "job"]) is None
    with pytest.raises(ConfigError, match="train one run, not a sweep"):
        config_of(["-m", "seed=0,1"])
    environment({})
    assert config_of(["-m", "seed=0,1", "distributed.coordinator=a:1"]) is None  # for its jobs
    with pytest.raises(ConfigError, match="train one run, not a sweep"):
        config_of(["-m", "seed=0,1", *words[-1:], "distributed.process=1"])


def test_a_program_is_one_process(tmp_path):
    words = ["dataset=bars", "distributed.coordinator=a:1", "distributed.processes=2"]
    with pytest.raises(ConfigError, match=r"distributed\.\* is for bihm-train"):
        bihm.train(*words, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["node:0", *rare("node", "node:", ":5", "node:x", "node:65536")])
def test_a_coordinator_is_a_host_and_a_port(value, home):
    told = "distributed.coordinator must be HOST:PORT, as node1:12345, got "
    check((["bihm-train", "dataset=bars", f"distributed.coordinator='{value}'"], 2, told), home)


@pytest.mark.parametrize("word", ["process=-1", *rare("processes=0")])
def test_numbers_of_processes_make_sense(word, home):
    check((["bihm-train", "dataset=bars", f"distributed.{word}"], 2, "must be at least"), home)
