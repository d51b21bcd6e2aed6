"""The end of a multirun: which jobs failed and why, and a small table of the others."""

import os
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bihm.config import Config, flatten, load
from bihm.errors import BihmError
from bihm.runfiles import read_json

COLUMNS = ("log_p", "log_p_star", "two_log_z")


class SweepFolder(Callback):
    """Hydra's hook at the start of a multirun: the only place that knows the sweep's folder."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the jobs will be, whichever launcher runs them."""
        SweepFolder.folder = Path(os.path.abspath(config.hydra.sweep.dir))


HOOKS = {"sweep_folder": {"_target_": f"{SweepFolder.__module__}.{SweepFolder.__qualname__}"}}


def register() -> None:
    """Add the hook to Hydra's configuration, from code: no YAML of ours names a class."""
    SweepFolder.folder = None
    ConfigStore.instance().store("sweep", HOOKS, group="hydra/callbacks")


def report_sweep() -> bool:
    """Print what became of a multirun's jobs; True if there was one and all its jobs finished."""
    folder = SweepFolder.folder
    if folder is None:
        return True
    jobs = sorted(
        (path.parent for path in folder.glob("*/status.json")),
        key=lambda job: (len(job.name), job.name),
    )
    if not jobs:  # the first one's words were wrong already
        _remove_if_empty(folder)
        return True
    statuses = {job: _read(job / "status.json") for job in jobs}
    done = [job for job in jobs if statuses[job].get("status") == "finished"]
    print(f"\n{len(done)} of {len(jobs)} jobs finished in {folder}")
    for line in _table(done):
        print(line)
    for job in jobs:
        if job not in done:
            status = statuses[job]
            print(f"{job.name}: {status.get('status')}: {status.get('reason')}")
    return len(done) == len(jobs)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"multirun.yaml"}:
        (folder / "multirun.yaml").unlink(missing_ok=True)
        remove_empty(folder, Path.cwd())


def remove_empty(folder: Path, home: Path) -> None:
    """Remove a folder and those above it, below `home`, as long as they are empty."""
    while home in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # not empty: somebody else's
            return
        folder = folder.parent


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except BihmError as error:
        return {"status": "unreadable", "reason": str(error)}
    return content if isinstance(content, dict) else {}


def _table(jobs: list[Path]) -> list[str]:
    """One line a job: the keys in which the jobs differ, and the test estimates."""
    configs = {job: _flat_config(job) for job in jobs}
    keys = [
        key for key in flatten(Config()) if len({str(c.get(key)) for c in configs.values()}) > 1
    ]
    rows = [["job", *keys, *COLUMNS]]
    for job in jobs:
        test = _read(job / "results.json").get("test", {})
        numbers = [_number(test.get(name)) for name in COLUMNS]
        rows.append([job.name, *(str(configs[job].get(key)) for key in keys), *numbers])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]


def _flat_config(job: Path) -> dict[str, Any]:
    try:
        return flatten(load(job / "config.yaml"))
    except BihmError:
        return {}


def _number(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return "-"
    error = estimate.get("sem", estimate.get("stderr"))
    return f"{estimate['mean']:.3f} +- " + ("?" if error is None else f"{error:.3f}")
