"""`bihm-train`: Hydra in, a run directory and an exit code out."""

import contextlib
import logging
import os
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bihm import paths
from bihm.cli import (
    command_words,
    exit_codes,
    follower,
    going_on,
    help_check,
    imports,
    sweep,
    together,
    untrusted_files,
)
from bihm.cli.job_config import job_config
from bihm.config import Config, DistributedConfig, explain
from bihm.config import register as register_schema
from bihm.config.processes import find_place, of_launcher
from bihm.errors import (
    LESS_MEMORY,
    BihmError,
    ConfigError,
    Interrupted,
    OutOfMemory,
    Unexpected,
    as_bihm_error,
    cannot_write,
    disk_refusals,
)
from bihm.records.progress import is_terminal
from bihm.signals import hand_on, stopped_at_once

PROGRAM = "bihm-train"


class Job:
    """What Hydra calls for each job; it keeps a single run's error, which Hydra would print twice."""

    def __init__(self) -> None:
        self.error: BihmError | None = None
        self.called = False

    def __call__(self, raw: DictConfig) -> float | None:
        """Check the configuration, train, and return the score on valid for a sweeper."""
        self.called = True
        hydra_config = HydraConfig.get()
        directory = Path(hydra_config.runtime.output_dir)
        # Looking at the words one by one would resolve what ${ they hold.
        overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
        assert isinstance(overrides, list)
        single = hydra_config.mode == RunMode.RUN
        launcher = str(hydra_config.launcher["_target_"])
        mine = single
        try:
            if not single:
                sweep.record(hydra_config)
                mine = of_launcher().process > 0 or sweep.claim(hydra_config)
                if not mine:
                    raise ConfigError(sweep.same_folder(directory))
            config = job_config(raw, overrides)
            with disk_refusals():
                return _train(config, directory, interactive=single and is_terminal(sys.stdout))
        except (
            Exception,
            SystemExit,
        ) as caught:  # Hydra would lose what the other jobs of a sweep have to say
            error = as_bihm_error(caught, LESS_MEMORY, _log_traceback(caught))
            if error is not caught:
                error.__cause__ = caught
            if single:
                if not isinstance(error, OutOfMemory | Unexpected):  # its traceback is in train.log
                    sweep.remove_unused()
                self.error = error
                return None
            sweep.record(hydra_config, error)
            if mine:
                _record_failure(directory, error)
            if isinstance(error, Interrupted) and launcher != together.TARGET:
                self._end_sweep(error, here=launcher.endswith("BasicLauncher"))
            raise error  # noqa: B904  # its cause, if it has one, is there already

    def _end_sweep(self, error: Interrupted, here: bool) -> None:
        """A scheduler's own handler may requeue the job; a sweep in this process does not go on."""
        hand_on(error.args[0])
        if here:
            self.error = error
            raise KeyboardInterrupt  # Hydra takes any Exception for this one job's misfortune


def _train(config: Config, directory: Path, interactive: bool) -> float:
    from bihm.data import require

    require(config.dataset.name, config.dataset.path)
    from bihm.records.computed_on import hold_threads
    from bihm.runtime import (  # jax takes a second: not before it is needed
        configure_jax,
        import_jax,
    )

    if find_place(config.distributed).processes > 1:
        import_jax()
        from bihm.run.training.processes import from_first, is_first, join

        join(config.distributed)
        directory = Path(from_first(str(directory)))
        if not is_first():
            logging.disable()
    config.distributed = DistributedConfig()  # by which processes makes no other run of it
    hold_threads(directory)
    configure_jax()
    from bihm.records.results import score
    from bihm.run.train import train

    return score(train(config, directory, interactive)["valid"])


def _record_failure(directory: Path, error: BihmError) -> None:
    from bihm.records.run_files import write_status

    with contextlib.suppress(OSError):  # a full disk
        if not (directory / "status.json").is_file():
            write_status(directory, "failed", error.reason)


def _log_traceback(error: BaseException) -> str:
    """Keep the traceback of what is no error of ours in the run's log alone, and say where it is."""
    handlers = logging.getLogger().handlers
    files = [file for file in handlers if isinstance(file, logging.FileHandler)]
    files = [file for file in files if Path(file.baseFilename).name == "train.log"]
    trace = "".join(traceback.format_exception(error))
    record = logging.LogRecord("bihm", logging.ERROR, "", 0, trace, None, None)
    files = [file for file in files if file.filter(record)]  # of several jobs, this one's
    if not files or (isinstance(error, BihmError) and not isinstance(error, OutOfMemory)):
        return exit_codes.HINT
    for file in files:
        file.handle(record)
    return f"the traceback is in {files[0].baseFilename}"


def main() -> None:
    """The console script."""
    with exit_codes.command(PROGRAM), stopped_at_once():
        _main()


def _main() -> None:
    register_schema()
    sweep.register()
    together.register()
    imports.register()
    untrusted_files.install()
    going_on.install()
    help_check.install()
    # Hydra then raises its errors instead of printing them, and what a user reads is ours to say.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.raiseExceptions = False  # a full disk is told by what cannot go on, not by train.log
    job = Job()
    run = hydra.main(version_base="1.3", config_path=str(paths.configs()), config_name="train")
    error: BaseException | None = None
    try:
        followed = follower.config_of(sys.argv[1:])
        sys.argv[1:] = command_words.screen(sys.argv[1:])
        if followed is not None:
            _train(followed, Path(), interactive=False)
        else:
            run(lambda raw: job(raw))()  # Hydra asks for a function: it wants to know its module
        error = job.error
    except (BihmError, KeyboardInterrupt) as caught:
        error = job.error or caught  # an interrupted job ends its sweep by KeyboardInterrupt
    except Exception as caught:
        error = caught
        if not job.called:
            sweep.remove_unused()
        ours = job.called or sweep.any_job_has_begun() or isinstance(caught, MemoryError)
        if not ours or isinstance(caught, HydraException | OmegaConfBaseException):
            error = cannot_write(caught, sweep.Folders.key) or ConfigError(explain(caught))
    except BaseException as caught:
        error = None if isinstance(caught, SystemExit) and not caught.code else caught
    reasons = sweep.report_sweep()
    if reasons and not isinstance(error, Interrupted | KeyboardInterrupt):
        if error is not None and as_bihm_error(error).reason not in reasons:  # a launcher's trouble
            exit_codes.tell(PROGRAM, error)
        sys.exit(1)
    if error is not None:
        raise error


if __name__ == "__main__":
    main()
