"""The end of a multirun: which jobs failed and why, and a small table of the others."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bihm.config import Config, flatten, load
from bihm.errors import BihmError, Interrupted
from bihm.records.run_files import read_json, write_json

JOBS = ".jobs"  # in a sweep's folder while it lasts
COLUMNS = ("log_p", "log_p_star", "two_log_z")


class Folders(Callback):
    """Hydra's hooks before it makes folders: the only place that knows a sweep's, and what is new."""

    sweep: Path | None = None
    new: tuple[Path, ...] = ()  # innermost first

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember what of a run's directory is not there yet."""
        Folders.new = _missing(Path(os.path.abspath(config.hydra.run.dir)) / "train.log")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the jobs will be, whichever launcher runs them."""
        Folders.sweep = Path(os.path.abspath(config.hydra.sweep.dir))
        Folders.new = _missing(Folders.sweep / "multirun.yaml")
        shutil.rmtree(Folders.sweep / JOBS, ignore_errors=True)


HOOKS = {"folders": {"_target_": f"{Folders.__module__}.{Folders.__qualname__}"}}


def register() -> None:
    """Add the hooks to Hydra's configuration, from code: no YAML of ours names a class."""
    Folders.sweep, Folders.new = None, ()
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


def record(hydra_config: HydraConf, error: BihmError | None = None) -> None:
    """Tell `report_sweep`, which may be in another process, of a job that starts or has failed."""
    runtime = hydra_config.runtime
    job = {"directory": str(runtime.output_dir), "status": None, "reason": ""}
    if isinstance(error, Interrupted):
        job |= {"status": "interrupted", "reason": str(error)}
    elif error is not None:
        job |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    folder = Path(runtime.cwd) / hydra_config.sweep.dir / JOBS
    with contextlib.suppress(OSError):  # a full disk: the job has its say of that
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{hydra_config.job.num}.json", job)


def report_sweep() -> bool:
    """Print what became of a multirun's jobs; True if there was one and all its jobs finished."""
    folder = Folders.sweep
    if folder is None:
        return True
    jobs = _outcomes(folder)
    shutil.rmtree(folder / JOBS, ignore_errors=True)
    if not jobs:  # the first one's words were wrong already
        remove_unused()
        return True
    done = [job for job in jobs if jobs[job].get("status") == "finished"]
    print(f"\n{len(done)} of {len(jobs)} jobs finished in {folder}")
    for line in _table(done, folder) if done else ():
        print(line)
    for job, outcome in jobs.items():
        if job not in done:
            print(f"{_label(job, folder)}: {outcome.get('status')}: {outcome.get('reason')}")
    return len(done) == len(jobs)


def _outcomes(folder: Path) -> dict[Path, dict[str, Any]]:
    """The directories of this sweep's jobs, in order, with what they or their runs say of their end."""
    files = sorted((folder / JOBS).glob("*.json"), key=lambda path: (len(path.name), path.name))
    jobs = [_read(path) for path in files]
    return {
        Path(job["directory"]): job
        if job["status"]
        else _read(Path(job["directory"]) / "status.json")
        for job in jobs
        if "directory" in job
    }


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
    rows = [["job", *keys, *COLUMNS]]
    for job in jobs:
        test = _read(job / "results.json").get("test", {})
        numbers = [_number(test.get(name)) for name in COLUMNS]
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
