"""The end of a multirun: which jobs failed and why, and a small table of the others."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from bihm.config import Config, flatten, load
from bihm.errors import BihmError, ConfigError, Interrupted
from bihm.records.run_files import read_json, write_json

JOBS = ".jobs"  # in a sweep's folder while it lasts
COLUMNS = ("log_p", "log_p_star", "two_log_z")


class Folders(Callback):
    """Hydra's hooks before it makes folders: the only place that knows a sweep's, and what is new."""

    sweep: Path | None = None
    key = ""  # what chose the folder, once it is known
    new: tuple[Path, ...] = ()  # innermost first
    jobs: ClassVar[
        dict[tuple[str, ...], str]
    ] = {}  # the words of each job, and its folder if known

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
        shutil.rmtree(Folders.sweep / JOBS, ignore_errors=True)


HOOKS = {"folders": {"_target_": f"{Folders.__module__}.{Folders.__qualname__}"}}


def register() -> None:
    """Add the hooks to Hydra's configuration, from code: no YAML of ours names a class."""
    Folders.sweep, Folders.key, Folders.new, Folders.jobs = None, "", (), {}
    ConfigStore.instance().store("sweep", HOOKS, group="hydra/callbacks")


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


def enlist(job: DictConfig, words: list[str], sweep: DictConfig) -> None:
    """Remember a job that Hydra composes, and name it by the words that tell it from the others.

    Hydra composes all jobs of a sweep before the first one starts.

    Raises:
        ConfigError: a job of other words would use the same folder.
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides(list(sweep.hydra.overrides.task))
    fixed = {word.key_or_group for word in given if not word.is_sweep_override()}
    ours = job.hydra.job
    style = ours.config.override_dirname
    swept = [
        word.input_line or ""
        for word in parser.parse_overrides(list(job.hydra.overrides.task))
        if word.key_or_group not in fixed | set(style.exclude_keys)
    ]
    with read_write(ours), open_dict(ours):
        ours.override_dirname = style.item_sep.join(swept).replace("=", style.kv_sep)
    place = ""
    with contextlib.suppress(OmegaConfBaseException):  # it needs the job's number, not known yet
        place = os.path.normpath(os.path.join(job.hydra.sweep.dir, job.hydra.sweep.subdir))
    if place and any(p == place and w != tuple(words) for w, p in Folders.jobs.items()):
        raise ConfigError(same_folder(place))
    Folders.jobs[tuple(words)] = place


def same_folder(place: str | os.PathLike[str]) -> str:
    """What to say of a second job that would use it."""
    return (
        f"several jobs would use the folder {place}; let hydra.sweep.subdir tell them apart, "
        "as with ${hydra.job.num} in it"
    )


def claim(hydra_config: HydraConf) -> bool:
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


def record(hydra_config: HydraConf, error: BihmError | None = None) -> None:
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


def _jobs(hydra_config: HydraConf) -> Path:
    return Path(hydra_config.runtime.cwd) / hydra_config.sweep.dir / JOBS


def has_begun() -> bool:
    """Whether a job of the sweep has started, in this process or another."""
    return Folders.sweep is not None and any((Folders.sweep / JOBS).glob("*.json"))


def report_sweep() -> list[str]:
    """Print what became of a multirun's jobs; the reasons of those that have not finished."""
    folder = Folders.sweep
    if folder is None:
        return []
    jobs = _outcomes(folder)
    shutil.rmtree(folder / JOBS, ignore_errors=True)
    if not jobs:  # the first one's words were wrong already
        remove_unused()
        return []
    done = [job for job, outcome in jobs if outcome.get("status") == "finished"]
    absent = max(0, len(Folders.jobs) - len(jobs))
    print(f"\n{len(done)} of {len(jobs) + absent} jobs finished in {folder}")
    for line in _table(done, folder) if done else ():
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
    return [(place, job if job["status"] else _end(place)) for place, job in jobs]


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


def _table(jobs: list[Path], folder: Path) -> list[str]:
    """One line a job: the keys in which the jobs differ, and the test estimates."""
    configs = {job: _flat_config(job) for job in jobs}
    keys = [
        key for key in flatten(Config()) if len({str(c.get(key)) for c in configs.values()}) > 1
    ]
    tests = {job: _read(job / "results.json").get("test", {}) for job in jobs}
    from bihm.records.results import DENSITIES  # jax takes a second to import: not at the start

    dense = [name for name in DENSITIES if any(name in test for test in tests.values())]
    bits = any("log_p" in test for test in tests.values()) or not dense
    columns = [*(COLUMNS if bits else ()), *dense]
    rows = [["job", *keys, *columns]]
    for job in jobs:
        numbers = [_number(tests[job].get(name)) for name in columns]
        rows.append([_label(job, folder), *(str(configs[job].get(key)) for key in keys), *numbers])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _flat_config(job: Path) -> dict[str, Any]:
    try:
        return flatten(load(job / "config.yaml"))
    except BihmError:
        return {}


def _number(estimate: dict[str, float] | None) -> str:
    from bihm.records.results import number  # jax takes a second to import: not at the start

    if estimate is None:
        return "-"
    error = estimate.get("sem", estimate.get("stderr"))
    return f"{number(estimate['mean'])} +- " + ("?" if error is None else number(error))
