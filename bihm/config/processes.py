"""Which process of a run this is, as the configuration or whatever started it says."""

import os
from typing import NamedTuple

from bihm.config.schema import DistributedConfig
from bihm.errors import ConfigError

# What starts several tasks says so to each: how many there are, and which one it is.
LAUNCHERS = {
    "SLURM": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "submitit": ("SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_GLOBALID"),
}
FINDS_ITS_COORDINATOR = ("SLURM", "Open MPI")  # jax asks these


class Place(NamedTuple):
    """How many processes there are, which one this is, and who says so."""

    processes: int
    process: int
    launcher: str


ALONE = Place(1, 0, "")


def find_place(given: DistributedConfig) -> Place:
    """This process among those of its run: as the configuration says, or else the launcher.

    Raises:
        ConfigError: what they say is not enough, or makes no sense.
    """
    found = of_launcher()
    processes = given.processes if given.processes is not None else found.processes
    process = given.process if given.process is not None else found.process
    if given.processes is None and found is ALONE and given != DistributedConfig():
        raise ConfigError("distributed.processes=N is missing: how many processes there are")
    if processes == 1:
        return ALONE
    if given.process is None and found is ALONE:
        raise ConfigError(
            f"distributed.processes={processes}: nothing says which one this is; "
            "give each its own distributed.process=I, from 0 on"
        )
    if process >= processes:
        raise ConfigError(
            f"distributed.process={process} is none of {processes} processes, 0 .. {processes - 1}"
        )
    if given.coordinator is None and found.launcher not in FINDS_ITS_COORDINATOR:
        raise ConfigError(
            f"{processes} processes meet at the host of the first one: give all of them "
            "distributed.coordinator=HOST:PORT"
        )
    return Place(processes, process, found.launcher)


def of_launcher() -> Place:
    """This process among those that SLURM, Open MPI or submitit has started together."""
    for launcher, names in LAUNCHERS.items():
        count, own = (os.environ.get(name, "") for name in names)
        if count.isdecimal() and own.isdecimal() and int(count) > 1:
            return Place(int(count), int(own), launcher)
    return ALONE
