"""A run from its first step to its results, with a directory as the only memory between two starts."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax

from bihm.config import Config, differences, flatten, load, to_yaml
from bihm.errors import ConfigError, DataError, Interrupted, NumbersError, disk_refusals
from bihm.machine.machine import count_parameters
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.digests import digest_arrays
from bihm.records.logbook import Logbook
from bihm.records.progress import progress
from bihm.records.results import block_of, summary, versions
from bihm.records.run_files import lock, read_json, write_json, write_status, write_text
from bihm.run.build import Run, first_state, make_run, phases, split_rows
from bihm.run.loop import TrainingLoop
from bihm.run.splits import estimate_split, final_log_z, own_block
from bihm.runtime import lacks_bfloat16
from bihm.signals import StopRequest, stop_request

log = logging.getLogger("bihm")


@disk_refusals()
def train(config: Config, directory: Path, interactive: bool = False) -> dict[str, Any]:
    """Train, or go on training, in a run directory, and return what its `results.json` says.

    Raises:
        BihmError: the run could not start, broke, or was interrupted; `status.json` says which.
    """
    run = make_run(config)  # refuses what cannot work before anything is written
    directory.mkdir(parents=True, exist_ok=True)
    with lock(directory), stop_request() as stop:
        _check_claim(config, directory)
        _hold_to_its_rows(run, directory)
        finished = _finished(directory)
        if finished is not None:
            return finished
        write_text(directory / "config.yaml", to_yaml(config))
        write_status(directory, "running")
        try:
            results = _train(run, directory, interactive, stop)
        except (Interrupted, KeyboardInterrupt) as error:
            write_status(directory, "interrupted", str(error) or "by the keyboard, at once")
            raise
        except BaseException as error:
            with contextlib.suppress(OSError):  # a full disk has its say first
                write_status(directory, "failed", f"{type(error).__name__}: {error}")
            raise
        write_status(directory, "finished")
        return results


def _check_claim(config: Config, directory: Path) -> None:
    """See that what is there, if anything, is of the same run."""
    path = directory / "config.yaml"
    if path.is_file():
        changed = differences(load(path), config)
        if changed:
            raise ConfigError(
                f"{directory} holds another run: {', '.join(changed)}; choose another hydra.run.dir"
            )
    elif (directory / "results.json").exists():
        raise ConfigError(
            f"{directory} holds the results of a run but not its config.yaml; put that back, "
            "or choose another hydra.run.dir"
        )


def _hold_to_its_rows(run: Run, directory: Path) -> None:
    """See that a user's file holds the rows that this run began with; datasets of ours are pinned."""
    if run.config.dataset.path is None:
        return
    splits = (run.dataset.train, run.dataset.valid, run.dataset.test)
    digest, path = digest_arrays(splits), directory / ".rows"
    if path.exists() and path.read_text().strip() != digest:
        raise DataError(
            f"{run.config.dataset.path}: other rows than when {directory} began; put them back, "
            "or choose another hydra.run.dir"
        )
    write_text(path, f"{digest}\n")


def _finished(directory: Path) -> dict[str, Any] | None:
    """The results of a run that has ended already."""
    status, results = (_recall(directory / name) for name in ("status.json", "results.json"))
    if results is None or status is None or status.get("status") != "finished":
        return None
    try:
        lines = summary(results)
    except (KeyError, TypeError, ValueError, AttributeError):
        log.warning("%s is damaged; it is made again", directory / "results.json")
        return None
    log.info("%s has finished already; nothing to do", directory)
    for line in lines:
        log.info("%s", line)
    return results


def _recall(path: Path) -> dict[str, Any] | None:
    """One of the files that a run makes again from its checkpoint; None if it is absent or damaged."""
    if not path.exists():
        return None
    with contextlib.suppress(DataError):
        content = read_json(path)
        if isinstance(content, dict):
            return content
    log.warning("%s is damaged; it is made again", path)
    return None


@disk_refusals()
def _train(run: Run, directory: Path, interactive: bool, stop: StopRequest) -> dict[str, Any]:
    with contextlib.ExitStack() as last:
        checkpoints = Checkpoints(directory, run.config)
        last.callback(checkpoints.close)
        state = first_state(run)
        saved = checkpoints.restore(state)
        start = saved or Checkpoint(state, state, {})
        book = Logbook(directory, *_logged(saved))
        last.callback(book.close)
        book.hparams(flatten(run.config))
        book.text(0, "config", f"```yaml\n{to_yaml(run.config)}```")
        _greet(run, saved)
        try:
            with progress(_steps(run), interactive, log) as shown:
                training_loop = TrainingLoop(run, book, checkpoints, shown, stop, start)
                best = training_loop.train()
            results = _results(run, training_loop, best)
        except NumbersError as error:
            book.session_end(0, {}, success=False)
            raise NumbersError(f"{error}; last good checkpoint: {checkpoints}") from error
        write_json(directory / "results.json", results)
        _log_end(book, results)
        return results


def _logged(start: Checkpoint | None) -> tuple[int, int] | tuple[()]:
    """The step up to which the logs are those of a checkpoint, and that of its last evaluation."""
    return () if start is None else (int(start.latest.step), start.memory["evaluated_step"])


def _steps(run: Run) -> int:
    """How many there are if nothing ends a phase early."""
    return sum(phase.epochs or 0 for phase in phases(run.config)) * run.plan.steps_per_epoch


def _greet(run: Run, start: Checkpoint | None) -> None:
    config, dataset = run.config, run.dataset
    log.info(
        "%s on %s: %d-%s, %s parameters, %d training rows, K=%s, on %s",
        config.model.name,
        config.dataset.name,
        dataset.n_features,
        "-".join(map(str, config.layers or [])),
        f"{count_parameters(run.params):,}",
        len(dataset.train),
        ", then ".join(str(phase.K) for phase in phases(config)),
        jax.devices()[0].device_kind,
    )
    if config.precision == "bf16" and lacks_bfloat16():
        log.warning(
            "precision=bf16 is slower than f32 here: this processor has no bfloat16 products"
        )
    if start is not None:
        log.info("going on from the checkpoint of step %d", int(start.latest.step))


def _log_end(book: Logbook, results: dict[str, Any]) -> None:
    """Show the final numbers to TensorBoard's HPARAMS tab and to the person."""
    final = {
        f"final/{split}/{name}": results[split][name]["mean"]
        for split in ("test", "valid")
        for name in ("log_p", "log_p_tilde_star", "log_p_star", "two_log_z")
        if name in results[split]
    }
    book.session_end(results["train"]["steps"], final, success=True)
    for line in summary(results):
        log.info("%s", line)


def _results(run: Run, training_loop: TrainingLoop, best: TrainState) -> dict[str, Any]:
    """Evaluate the best state on valid and test: the content of `results.json`."""
    config, memory = run.config, training_loop.memory

    def assess(split: str) -> dict[str, Any]:
        return block_of(
            estimate_split(
                getattr(run.keys, split),
                run.structure,
                params,
                split_rows(run.dataset, split),
                config.eval.final_K,
                block=own_block(config, config.eval.final_K),
                report=training_loop.heed_signals,
            ),
            config.eval.final_K,
            log_z,
        )

    log.info("estimating the best state, K=%d, on valid and test", config.eval.final_K)
    params = evaluated_params(best)
    log_z = final_log_z(config, run.keys, run.structure, params, training_loop.heed_signals)
    return {
        "schema": 1,
        "model": config.model.name,
        "dataset": config.dataset.name,
        "layers": config.layers,
        "parameters": count_parameters(run.params),
        "seed": config.seed,
        "train": {
            "epochs": training_loop.epoch,
            "steps": training_loop.step,
            "best_epoch": memory.best_epoch,
            "seconds": round(memory.seconds, 3),
            "stopped_by": memory.stopped_by,
        },
        "test": assess("test"),
        "valid": assess("valid"),
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
    }
