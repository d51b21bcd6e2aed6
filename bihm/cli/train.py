"""`bihm-train`: Hydra in, a run directory and an exit code out."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bihm import config as schema
from bihm import paths
from bihm.cli import help_check, imports, sweep, trust, words
from bihm.errors import BihmError, ConfigError, Interrupted, disk_refusals, full_disk
from bihm.signals import hand_on

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
        try:
            if not single:
                sweep.record(hydra_config)
            config = schema.parse(raw, [part.partition("=")[0].lstrip("+~") for part in overrides])
            if config.dataset.path is not None:  # where the user is, whatever hydra.job.chdir says
                config.dataset.path = to_absolute_path(os.path.expanduser(config.dataset.path))
            with disk_refusals():
                return _train(config, directory, interactive=single and sys.stdout.isatty())
        except (BihmError, MemoryError) as caught:
            error = caught if isinstance(caught, BihmError) else BihmError(str(caught))
            if single:
                sweep.remove_unused()
                self.error = error
                return None
            sweep.record(hydra_config, error)
            _record_failure(directory, error)
            if isinstance(error, Interrupted):
                self._end_sweep(error, here=launcher.endswith("BasicLauncher"))
            raise error from caught

    def _end_sweep(self, error: Interrupted, here: bool) -> None:
        """A scheduler's own handler may requeue the job; a sweep in this process does not go on."""
        hand_on(error.args[0])
        if here:
            self.error = error
            raise KeyboardInterrupt  # Hydra takes any Exception for this one job's misfortune


def _train(config: schema.Config, directory: Path, interactive: bool) -> float:
    from bihm.data import require

    require(config.dataset.name, config.dataset.path)
    from bihm.runtime import configure_jax  # jax takes a second to import: not before it is needed

    configure_jax()
    from bihm.run.train import train

    block = train(config, directory, interactive)["valid"]
    return float(block.get("log_p_tilde_star", block["log_p"])["mean"])


def _record_failure(directory: Path, error: BihmError) -> None:
    from bihm.records.run_files import write_status

    if not (directory / "status.json").is_file():
        write_status(directory, "failed", f"{type(error).__name__}: {error}")


def main() -> None:
    """The console script."""
    schema.register()
    sweep.register()
    imports.register()
    trust.install()
    help_check.install()
    # Hydra then raises its errors instead of printing them, and what a user reads is ours to say.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    logging.raiseExceptions = False  # a full disk is told by what cannot go on, not by train.log
    job = Job()
    run = hydra.main(version_base="1.3", config_path=str(paths.configs()), config_name="train")
    code = 0
    try:
        words.screen(sys.argv[1:])
        run(lambda raw: job(raw))()  # Hydra asks for a function: it wants to know its module
    except BihmError as error:
        job.error = error
    except KeyboardInterrupt:
        if not isinstance(job.error, Interrupted):
            print(f"{PROGRAM}: interrupted", file=sys.stderr)
            code = 130
    except Exception as error:
        if job.called and not isinstance(error, HydraException | OmegaConfBaseException):
            raise  # a defect of ours, not the command's
        job.error = full_disk(error) or ConfigError(schema.explain(error))
    finished = sweep.report_sweep()
    if isinstance(job.error, Interrupted) and not code:
        print(f"{PROGRAM}: {job.error}", file=sys.stderr)
        code = job.error.exit_code
    elif not finished:
        code = code or 1
    elif job.error is not None:
        print(f"{PROGRAM}: {job.error}", file=sys.stderr)
        code = job.error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
