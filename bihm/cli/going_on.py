"""A sweep's command given again: which folder each job has already, and which jobs are left to do.

A folder is named after a job's number and its words. A longer list of values shifts the numbers, so a job
looks for its folder by the words, and its number counts only where it has none. A list that had one value
before, or has one now, changes the words as well: then a run of this very configuration is the job's.
What has finished is not launched again, whichever launcher there is.
"""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from bihm.cli import held_runs, together
from bihm.cli.job_config import job_config
from bihm.cli.sweep import Folders, hold, same_folder
from bihm.config import Config
from bihm.errors import BihmError, ConfigError
from bihm.records.run_files import read_json

PLACE = "hydra.sweep.subdir="  # the word by which a launched job is told its folder
NUMBER = 9_876_543_210_987_654_321  # stands for a job's number while its folder is looked for
WHOLE = ("experiment", "like")  # swept, they may change any key

log = logging.getLogger("bihm")


class Found(NamedTuple):
    """A folder whose name fits a job."""

    name: str  # below the sweep's
    rank: int  # 0: holds this very configuration; 1: another one, of the same words; 2: none
    finished: bool


class Seen(NamedTuple):
    """A job that Hydra has composed and not launched yet."""

    pattern: str | None  # its folder, with NUMBER for its number; None: only the job itself knows
    found: tuple[Found, ...]


_seen: dict[tuple[str, ...], Seen] = {}
_instantiate_launcher = Plugins.instantiate_launcher


def install() -> None:
    """Let every launcher have those jobs alone that have not finished."""
    _seen.clear()
    held_runs.forget()
    Plugins.instantiate_launcher = _remaining  # type: ignore[method-assign, assignment]


def _remaining(
    plugins: Plugins, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
) -> Launcher:
    hooks: dict[str, Any] = {
        "hydra_context": hydra_context,
        "task_function": task_function,
        "config": config,
    }
    if config.hydra.launcher["_target_"] == together.TARGET:  # Hydra takes none outside its package
        launcher: Launcher = together.Together()
        launcher.setup(**hooks)
    else:
        launcher = _instantiate_launcher(plugins, **hooks)
    remaining = Remaining(launcher)
    remaining.setup(**hooks)
    return remaining


def enlist(job: DictConfig, words: list[str], sweep: DictConfig) -> None:
    """Name a job that Hydra composes by the words that tell it from the others, and look for its folder.

    Hydra composes all jobs of a sweep before the first one starts, and each again when it does.

    Raises:
        ConfigError: a job of other words would use the same folder.
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides(list(sweep.hydra.overrides.task))
    fixed = {word.key_or_group for word in given if not word.is_sweep_override()}
    style = job.hydra.job.config.override_dirname
    own = parser.parse_overrides(list(job.hydra.overrides.task))
    swept = [word for word in own if word.key_or_group not in fixed]
    named = [w.input_line or "" for w in swept if w.key_or_group not in style.exclude_keys]
    with read_write(job.hydra.job), open_dict(job.hydra.job):
        job.hydra.job.override_dirname = style.item_sep.join(named).replace("=", style.kv_sep)
    if any(word.startswith(PLACE) for word in words):  # it has been found already
        return
    pattern = _pattern(job)
    key = tuple(words)
    if pattern is not None and str(NUMBER) not in pattern:
        clash = any(one.pattern == pattern for other, one in _seen.items() if other != key)
        if clash:
            raise ConfigError(same_folder(_folder(job) / pattern))
    Folders.words.add(key)
    _seen[key] = Seen(pattern, _look(job, pattern, {word.key_or_group for word in swept}))


def _folder(job: DictConfig) -> Path:
    return Path(os.path.abspath(str(job.hydra.sweep.dir)))


def _pattern(job: DictConfig) -> str | None:
    """The name of a job's folder with NUMBER in it; None where the job itself has to make it."""
    with read_write(job.hydra.job), open_dict(job.hydra.job):
        job.hydra.job.num = NUMBER
        try:
            name = os.path.normpath(str(job.hydra.sweep.subdir))
        except (
            OmegaConfBaseException
        ):  # it needs what a launcher knows, as the number of a batch job
            name = None
        job.hydra.job.num = "???"
    return None if name is None or "$" in name else name


def _look(job: DictConfig, pattern: str | None, swept: set[str]) -> tuple[Found, ...]:
    """The folders that fit a job's words and hold no run of other ones."""
    if pattern is None:
        return ()
    folder = _folder(job)
    shape = re.compile(re.escape(pattern).replace(str(NUMBER), r"\d+"))
    places = glob.glob(
        glob.escape(pattern).replace(str(NUMBER), "[0-9]*"), root_dir=folder, include_hidden=True
    )
    places = [place for place in places if shape.fullmatch(place) and (folder / place).is_dir()]
    if not places and not held_runs.are_in(folder):
        return ()
    config = None
    with contextlib.suppress(BihmError):  # what is wrong the job itself says, when it starts
        raw = OmegaConf.masked_copy(job, [str(key) for key in job if key != "hydra"])
        config = job_config(raw, job.hydra.overrides.task)
    found = [_examine(folder, place, config, swept) for place in sorted(places)]
    fit = tuple(one for one in found if one is not None)
    if fit or config is None:
        return fit
    return tuple(
        Found(name, 0, _has_finished(saved, config, folder / name))
        for name, saved in held_runs.runs_of(folder, config)
    )


def _examine(folder: Path, name: str, config: Config | None, swept: set[str]) -> Found | None:
    """What a folder that has a job's name holds; None if it is a run of another job's words."""
    path = folder / name / "config.yaml"
    if config is None or not path.exists():
        return Found(name, 2, finished=False)
    saved = held_runs.held(path)
    if saved is None:
        return Found(name, 1, finished=False)
    other = held_runs.different(saved, config)
    if other and swept & set(WHOLE):
        return None
    if any(key == word or key.startswith(f"{word}.") for key in other for word in swept):
        return None
    return Found(name, 1 if other else 0, _has_finished(saved, config, folder / name))


def _has_finished(saved: Config, config: Config, directory: Path) -> bool:
    if not (directory / "results.json").exists():
        return False
    from bihm.run.training.same_run import nothing_to_do  # jax takes a second to import

    return nothing_to_do(saved, config, directory)


class Remaining(Launcher):
    """Another launcher, which gets the jobs that have not finished, each with the name of its folder."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's hook."""
        del task_function
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Launch what is left; results come in the order of the jobs.

        Raises:
            ConfigError: another command makes this sweep at present.
        """
        hold()
        done: dict[int, JobReturn] = {}
        rest: list[Sequence[str]] = []
        for i, words in enumerate(job_overrides):
            found = self._place(words, initial_job_idx + i)
            if found is not None and found.finished:
                done[i] = _finished_before(words, self._folder / found.name)
            elif found is not None:
                name = QuotedString(found.name, Quote.single).with_quotes()
                rest.append([*words, PLACE + name])
            else:
                rest.append(words)
        if done:
            log.info(
                "%d of %d jobs have finished already and are left as they are",
                len(done),
                len(job_overrides),
            )
        launched = iter(self.launcher.launch(rest, initial_job_idx) if rest else ())
        return [done[i] if i in done else next(launched) for i in range(len(job_overrides))]

    @property
    def _folder(self) -> Path:
        return _folder(self.config)

    def _place(self, words: Sequence[str], number: int) -> Found | None:
        """The folder that a job has, or the one that it gets."""
        if tuple(words) not in _seen:  # not every sweeper has its jobs composed before
            self.loader.load_sweep_config(self.config, list(words))
        seen = _seen[tuple(words)]
        if seen.pattern is None:
            return None
        taken = set(Folders.order)
        own = seen.pattern.replace(str(NUMBER), str(number))
        free = [one for one in seen.found if self._folder / one.name not in taken]
        if free:
            best = min(free, key=lambda one: (one.rank, one.name != own))
        elif own == seen.pattern:  # the same for all numbers: whoever comes second says so
            best = Found(own, 2, finished=False)
        else:
            while (self._folder / own).exists() or self._folder / own in taken:
                number += 1
                own = seen.pattern.replace(str(NUMBER), str(number))
            best = Found(own, 2, finished=False)
        Folders.order.append(self._folder / best.name)
        return best


def _finished_before(words: Sequence[str], directory: Path) -> JobReturn:
    """What a job that is left gives to the sweeper: its score, as when it ended."""
    from bihm.records.results import score

    Folders.left.append(directory)
    value = score(read_json(directory / "results.json")["valid"])
    done = JobReturn(overrides=list(words), status=JobStatus.COMPLETED)
    done.return_value = value
    return done
