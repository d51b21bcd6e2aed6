"""The end of a multirun: which jobs failed and why, and a small table of the others."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import IO, Any, ClassVar

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bihm.cli import sweep_table
from bihm.errors import BihmError, ConfigError, Interrupted
from bihm.records import locks
from bihm.records.run_files import read_json, write_json

JOBS, LOCK = ".jobs", ".jobs.lock"  # in a sweep's folder while it lasts


class Folders(Callback):
    """Hydra's hooks before it makes folders: the only place that knows a sweep's, and what is new."""

    sweep: Path | None = None
    key = ""  # what chose the folder, once it is known
    new: tuple[Path, ...] = ()  # innermost first
    held: IO[bytes] | None = None  # the lock of the sweep, once this command has it
    words: ClassVar[set[tuple[str, ...]]] = set()  # of each job
    order: ClassVar[list[Path]] = []  # the jobs' folders, as far as they are known
    left: ClassVar[list[Path]] = []  # of those, what had finished before

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember what of a run's directory is not there yet."""
        Folders.key = "hydra.run.dir"
        Folders.new = _missing(Path(os.path.abspath(config.hydra.run.dir)) / "train.log")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the jobs will be, whichever launcher runs them."""
        Folders.key, Folders.sweep = (
            "hydra.sweep.dir",
            Path(os.path.abspath(config.hydra.sweep.dir)),
        )
        Folders.new = _missing(Folders.sweep / "multirun.yaml")
        if Folders.sweep.is_dir():
            # Hydra lets no hook refuse: `launch` asks again.
            with contextlib.suppress(ConfigError, OSError):
                hold()


HOOKS = {"folders": {"_target_": f"{Folders.__module__}.{Folders.__qualname__}"}}


def register() -> None:
    """Add the hooks to Hydra's configuration, from code: no YAML of ours has a `_target_`."""
    Folders.sweep, Folders.key, Folders.new, Folders.held = None, "", (), None
    Folders.words, Folders.order, Folders.left = set(), [], []
    ConfigStore.instance().store("sweep", HOOKS, group="hydra/callbacks")


def hold() -> None:
    """Keep a sweep's folder for this command, until it has reported; notes that one left which died go.

    Raises:
        ConfigError: another command makes this sweep at present.
    """
    if Folders.sweep is None or Folders.held is not None:
        return
    Folders.held = locks.hold(
        Folders.sweep / LOCK,
        f"another command makes the sweep in {Folders.sweep}; let it end, or choose another "
        f"{Folders.key}",
    )
    shutil.rmtree(Folders.sweep / JOBS, ignore_errors=True)


def _release(folder: Path, held: IO[bytes]) -> None:
    shutil.rmtree(folder / JOBS, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink()
    held.close()


def _missing(path: Path) -> tuple[Path, ...]:
    return tuple(part for part in (path, *path.parents) if not os.path.lexists(part))


def remove_unused() -> None:
    """Remove what Hydra made for a run or a sweep that was refused; nothing that others use or made."""
    made, *folders = Folders.new or (None,)
    with contextlib.suppress(
        OSError, ValueError
    ):  # not empty: somebody else's; or no name of a file
        if made is None or (made.parent / "config.yaml").exists():  # a run has begun there
            return
        made.unlink(missing_ok=True)
        for folder in folders:
            folder.rmdir()


def same_folder(place: str | os.PathLike[str]) -> str:
    """What to say of a second job that would use it."""
    return (
        f"several jobs would use the folder {place}; let hydra.sweep.subdir tell them apart, "
        "as with ${hydra.job.num} in it"
    )


def claim(hydra_config: HydraConf | DictConfig) -> bool:
    """Keep a job's folder for this job; False if another one of this sweep has it."""
    directory = os.path.normpath(hydra_config.runtime.output_dir)
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    path, job = _jobs(hydra_config) / f"{name}.claim", str(hydra_config.job.num)
    try:
        with path.open("x") as file:
            file.write(job)
    except FileExistsError:
        return path.read_text() == job  # its own, where a cluster has put it back into the queue
    except OSError:  # a full disk: the job has its say of that
        pass
    return True


def record(hydra_config: HydraConf | DictConfig, error: BihmError | None = None) -> None:
    """Tell `report_sweep`, which may be in another process, of a job that starts or has failed."""
    runtime = hydra_config.runtime
    job = {"directory": str(runtime.output_dir), "status": None, "reason": ""}
    if isinstance(error, Interrupted):
        job |= {"status": "interrupted", "reason": str(error)}
    elif error is not None:
        job |= {"status": "failed", "reason": error.reason}
    folder = _jobs(hydra_config)
    with contextlib.suppress(OSError):  # a full disk: the job has its say of that
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{hydra_config.job.num}.json", job)


def _jobs(hydra_config: HydraConf | DictConfig) -> Path:
    return Path(hydra_config.runtime.cwd) / hydra_config.sweep.dir / JOBS


def any_job_has_begun() -> bool:
    """Whether a job of the sweep has started, in this process or another."""
    folder = Folders.sweep
    return folder is not None and Folders.held is not None and any((folder / JOBS).glob("*.json"))


def report_sweep() -> list[str]:
    """Print what became of a multirun's jobs; the reasons of those that have not finished."""
    folder, held = Folders.sweep, Folders.held
    if folder is None or held is None:
        return []
    jobs = _outcomes(folder)
    _release(folder, held)
    if not jobs:  # the first one's words were wrong already
        remove_unused()
        return []
    done = [job for job, outcome in jobs if outcome.get("status") == "finished"]
    absent = max(0, len(Folders.words) - len(jobs))
    print(f"\n{len(done)} of {len(jobs) + absent} jobs finished in {folder}")
    for line in sweep_table.lines(done, folder) if done else ():
        print(line)
    for job, outcome in jobs:
        if outcome.get("status") != "finished":
            print(f"{_label(job, folder)}: {outcome.get('status')}: {outcome.get('reason')}")
    if absent:
        print(f"{absent} more did not start")
    reasons = [str(outcome.get("reason")) for _, outcome in jobs if outcome["status"] != "finished"]
    return reasons + ["did not start"] * absent


def _outcomes(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The directories of this sweep's jobs, in order, with what they or their runs say of their end."""
    files = sorted((folder / JOBS).glob("*.json"), key=lambda path: (len(path.name), path.name))
    jobs = [(Path(job["directory"]), job) for job in map(_read, files) if "directory" in job]
    ends = [(place, job if job["status"] else _end(place)) for place, job in jobs]
    ends += [(place, {"status": "finished"}) for place in Folders.left]
    order = {place: i for i, place in enumerate(Folders.order)}
    return sorted(ends, key=lambda end: order.get(end[0], len(order)))


def _end(directory: Path) -> dict[str, Any]:
    """What the run in a directory says of its end; it may have had no time to."""
    died = {
        "status": "failed",
        "reason": "it ended without a word (killed?); the same command goes on from here",
    }
    if not (directory / "status.json").exists():
        return died
    said = _read(directory / "status.json")
    if said.get("status") == "running" and not _alive(said.get("pid")):
        return died
    return {"status": "unreadable", "reason": "", **said}


def _alive(pid: Any) -> bool:
    """Whether another process still works on a job, one that a launcher has left behind."""
    if pid == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except (TypeError, ValueError, ProcessLookupError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _label(job: Path, folder: Path) -> str:
    return os.path.relpath(job, folder)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except BihmError as error:
        return {"status": "unreadable", "reason": str(error)}
    return content if isinstance(content, dict) else {}
