"""`hydra/launcher=together`: the jobs of a sweep as threads of one process, whose programs become one.

Each job is a run as any other, with a directory, a log and an end of its own; only its compiled calls are
made together with those of jobs whose programs have the same shapes (`bihm/kernels/together.py`).
"""

import logging
import logging.config
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from bihm.errors import ConfigError, Interrupted
from bihm.signals import hand_on, stop_request

TARGET = "bihm.cli.together.Together"
MOST = 64  # threads at a time; more jobs wait for these to end
PROCESSOR = (
    "hydra/launcher=together is for cards; on a processor hydra/launcher=joblib is the better choice, "
    "with a process for each core"
)

log = logging.getLogger("bihm")


def register() -> None:
    """Make the launcher known by its name, from code: no YAML of ours has a `_target_`."""
    ConfigStore.instance().store("together", {"_target_": TARGET}, group="hydra/launcher")


class Together(Launcher):
    """Hydra's hooks."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Remember what launches a job."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs, and return what each of them did.

        Raises:
            ConfigError: a job asks for what threads of one process share.
            Interrupted: a signal came; every job has saved.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = [self._compose(words, initial_job_idx + i) for i, words in enumerate(job_overrides)]
        log.info("Launching %d jobs together", len(jobs))
        for job, words in zip(jobs, job_overrides, strict=True):
            log.info("\t#%d : %s", job.hydra.job.num, " ".join(filter_overrides(words)))
        returned: list[JobReturn] = []
        with stop_request() as stop:
            self._wake(jobs[0])
            for first in range(0, len(jobs), MOST):
                if stop.signal is None:
                    returned += self._together(jobs[first : first + MOST])
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if stop.signal is not None:
            hand_on(stop.signal)
            raise Interrupted(stop.signal)
        return returned

    def _compose(self, words: Sequence[str], number: int) -> DictConfig:
        job = self.context.config_loader.load_sweep_config(self.config, list(words))
        with open_dict(job):
            job.hydra.job.id, job.hydra.job.num = number, number
        if job.hydra.job.chdir or job.hydra.job.env_set:
            raise ConfigError(
                "hydra.job.chdir and hydra.job.env_set are of a process, which jobs share here; "
                "leave them out, or choose another hydra/launcher"
            )
        if str(job.devices) != "1":
            raise ConfigError(
                f"devices={job.devices}: hydra/launcher=together puts several jobs on one device; "
                "leave it out, or choose another hydra/launcher"
            )
        return job

    def _wake(self, job: DictConfig) -> None:
        """Set jax and logging up before the threads need them."""
        from bihm.records.computed_on import hold_threads
        from bihm.runtime import configure_jax  # jax takes a second: not before it is needed

        _log_to_console(job)
        hold_threads(_directory(job))
        configure_jax()
        from bihm.kernels.compiled import on_processor

        if on_processor():
            log.info("%s", PROCESSOR)

    def _together(self, jobs: Sequence[DictConfig]) -> list[JobReturn]:
        from bihm.kernels.together import Meeting, free_memory

        meeting = Meeting(len(jobs), free_memory)
        ends: list[Any] = [None] * len(jobs)

        def work(i: int) -> None:
            try:
                with meeting.taking_part(), _own_log(jobs[i]):
                    ends[i] = run_job(
                        task_function=self.task,
                        config=jobs[i],
                        job_dir_key="hydra.sweep.dir",
                        job_subdir_key="hydra.sweep.subdir",
                        hydra_context=self.context,
                        configure_logging=False,
                    )
            except BaseException as error:
                ends[i] = error

        names = [_directory(job).name for job in jobs]
        threads = [
            threading.Thread(target=work, args=(i,), name=name, daemon=True)
            for i, name in enumerate(names)
        ]
        _tell_of_the_first(threads)
        around = HydraConfig.instance().cfg
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        HydraConfig.instance().cfg = around
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        return ends


def _directory(job: DictConfig) -> Path:
    return Path(str(job.hydra.sweep.dir)).absolute() / str(job.hydra.sweep.subdir)


def _log_to_console(job: DictConfig) -> None:
    """Set up logging as a job asks for, but for its file."""
    node: Any = OmegaConf.to_container(job.hydra.job_logging, resolve=False)
    node["handlers"] = {k: v for k, v in node["handlers"].items() if "filename" not in v}
    node["root"]["handlers"] = [k for k in node["root"]["handlers"] if k in node["handlers"]]
    logging.config.dictConfig(node)


def _tell_of_the_first(threads: Sequence[threading.Thread]) -> None:
    """Show on the console all that the first job alive says, and of the others what is amiss, by name."""

    def shown(record: logging.LogRecord) -> bool:
        first = next((thread.ident for thread in threads if thread.is_alive()), None)
        main = record.thread == threading.main_thread().ident
        record.job = "" if main else f"{record.threadName}: "
        return main or record.levelno >= logging.WARNING or record.thread == first

    for handler in logging.getLogger().handlers:
        for old in list(handler.filters):
            handler.removeFilter(old)
        handler.addFilter(shown)
        handler.setFormatter(logging.Formatter("%(job)s%(message)s"))


@contextmanager
def _own_log(job: DictConfig) -> Iterator[None]:
    """Let this thread log into the `train.log` of its job."""
    directory, me = _directory(job), threading.get_ident()
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(directory / "train.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.addFilter(lambda record: record.thread == me)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
