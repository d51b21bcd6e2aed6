"""A run from its first step to its results, with a directory as the only memory between two starts."""

import contextlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

import jax

from bihm.config import Config, columns, to_yaml
from bihm.config.families import own_columns
from bihm.config.unread import unread
from bihm.errors import (
    LESS_MEMORY,
    Interrupted,
    NumbersError,
    OutOfMemory,
    as_bihm_error,
    disk_refusals,
)
from bihm.machine.machine import count_parameters
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.computed_on import arithmetic, note_arithmetic
from bihm.records.locks import lock
from bihm.records.logbook import Logbook
from bihm.records.progress import progress
from bihm.records.results import ESTIMATES, doubts, summary, versions
from bihm.records.run_files import write_json, write_status, write_text
from bihm.run.build import Run, first_state, make_run, phases
from bihm.run.training.follow import follow, same_work
from bihm.run.training.loop import TrainingLoop
from bihm.run.training.own_rows import hold_to_its_rows
from bihm.run.training.processes import (
    AT_ONCE,
    are_several,
    from_first,
    in_step,
    is_first,
    told_to_others,
)
from bihm.run.training.raised_limits import changed_limits, check_exact, is_longer
from bihm.run.training.same_run import check_claim, finished_results
from bihm.run.training.start import hold_to_its_start, start_from
from bihm.runtime import computed_instead
from bihm.signals import StopRequest, stop_request

log = logging.getLogger("bihm")
ADAMS_PENALTY = 1e15


@disk_refusals()
def train(config: Config, directory: Path, interactive: bool = False) -> dict[str, Any]:
    """Train, or go on training, in a run directory, and return what its `results.json` says.

    Raises:
        BihmError: the run could not start, broke, or was interrupted; `status.json` says which.
    """
    run = start_from(make_run(config), directory)  # refuses what cannot work before it writes
    if not is_first():
        return follow(run, directory)
    directory.mkdir(parents=True, exist_ok=True)
    with told_to_others(), lock(directory), stop_request() as stop:
        saved = check_claim(config, directory)
        hold_to_its_rows(run.config, run.dataset, directory)
        hold_to_its_start(run, directory)
        finished = finished_results(directory)
        if finished is not None and not (saved and is_longer(saved, config, finished)):
            limits = changed_limits(saved, config) if saved else []
            log.info("%s has finished already; nothing to do%s", directory, _why(finished, limits))
            for line in summary(finished):
                log.info("%s", line)
            from_first({"finished": finished})
            return finished
        if saved is not None and (changed := changed_limits(saved, config)):
            check_exact(saved, run, directory)
            log.info("with another limit than before: %s", ", ".join(changed))
        write_text(directory / "config.yaml", to_yaml(config))
        write_status(directory, "running")
        from_first({"finished": None, "work": same_work(run)} if are_several() else None)
        try:
            results = _train(run, directory, interactive, stop)
        except (Interrupted, KeyboardInterrupt) as error:
            write_status(directory, "interrupted", str(error) or AT_ONCE)
            raise
        except BaseException as error:
            failure = as_bihm_error(error, LESS_MEMORY)
            with contextlib.suppress(OSError):  # a full disk has its say first
                write_status(directory, "failed", failure.reason)
            if isinstance(failure, OutOfMemory):
                raise failure from error
            raise
        write_status(directory, "finished")
        return results


@disk_refusals()
def _train(run: Run, directory: Path, interactive: bool, stop: StopRequest) -> dict[str, Any]:
    with contextlib.ExitStack() as last:
        checkpoints = Checkpoints(directory, run.config)
        last.callback(checkpoints.close)
        state = first_state(run)
        saved = checkpoints.restore(state)
        start = saved or Checkpoint(state, state, {})
        here = arithmetic(run.config.precision, run.devices)
        places = note_arithmetic(directory, here, fresh=saved is None)
        book = Logbook(directory, *_logged(saved))
        last.callback(book.close)
        book.hparams(own_columns(run.config, columns(run.config)))
        book.text(0, "config", f"```yaml\n{to_yaml(run.config)}```")
        _greet(run, saved)
        try:
            with in_step(partial(write_status, directory)):
                with progress(_steps(run), interactive, log) as shown:
                    training_loop = TrainingLoop(run, book, checkpoints, shown, stop, start)
                    best = training_loop.train()
                results = _results(run, training_loop, best) | {"arithmetic": places}
                from_first(results)
        except NumbersError as error:
            book.session_end(0, {}, success=False)
            raise NumbersError(
                f"{error}; {_remedy(run.config)}; last checkpoint: {checkpoints}"
            ) from error
        write_json(directory / "results.json", results)
        _log_end(book, results)
        return results


def _why(finished: dict[str, Any], limits: list[str]) -> str:
    """Why a finished run does not go on although it is given other limits."""
    ended_by = finished["train"]["stopped_by"]
    others = f": {ended_by} ended it, and only more of that lets it go on ({', '.join(limits)})"
    return others if limits else ""


def _remedy(config: Config) -> str:
    """What keeps the numbers of a run from breaking."""
    clip, optim = config.optim.clip, config.optim
    bound = "set optim.clip, as optim.clip=10" if clip is None else f"optim.clip (now {clip:g})"
    rates = dict.fromkeys(f"{phase.lr:g}" for phase in phases(config))
    own = optim.phases and all(phase.lr is not None for phase in optim.phases)
    key = "the lr of optim.phases" if own else "optim.lr"
    lower = f"lower {key} (now {', then '.join(rates)}) or {bound}"
    # Adam's steps are no longer for a larger penalty, but the squares of its gradient leave float32.
    most = ADAMS_PENALTY if optim.name == "adam" else 1 / max(p.lr for p in phases(config))
    for name, penalty in (("l2", optim.l2), ("l1", optim.l1)):
        if penalty >= most:
            return f"lower optim.{name} (now {penalty:g}), which alone breaks them, or {lower}"
    return lower


def _logged(start: Checkpoint | None) -> tuple[int, int] | tuple[()]:
    """The step up to which the logs are those of a checkpoint, and that of its last evaluation."""
    return () if start is None else (int(start.latest.step), start.memory["evaluated_step"])


def _steps(run: Run) -> int:
    """How many there are if nothing ends a phase early."""
    return sum(phase.epochs for phase in phases(run.config)) * run.plan.steps_per_epoch


def _greet(run: Run, start: Checkpoint | None) -> None:
    config, dataset = run.config, run.dataset
    log.info(
        "%s on %s: %d-%s, %s parameters, %d training rows, %s, on %s",
        config.model.name,
        config.dataset.name,
        dataset.n_features,
        "-".join(map(str, config.layers or [])),
        f"{count_parameters(run.params):,}",
        len(dataset.train),
        run.family.describe([phase.K for phase in phases(config)]),
        f"{run.devices} x " * (run.devices > 1) + jax.devices()[0].device_kind,
    )
    for note in dataset.notes:
        log.info("%s", note)
    instead = computed_instead(config.precision)
    if instead is not None:
        log.warning("%s", instead)
    for line in unread(config):
        log.warning("%s", line)
    if start is not None:
        log.info("going on from the checkpoint of step %d", int(start.latest.step))


def _log_end(book: Logbook, results: dict[str, Any]) -> None:
    """Show the final numbers to TensorBoard's HPARAMS tab and to the person."""
    final = {
        f"final/{split}/{name}": results[split][name]["mean"]
        for split in ("test", "valid")
        for name in ESTIMATES
        if name in results[split]
    }
    book.session_end(results["train"]["steps"], final, success=True)
    for line in summary(results):
        log.info("%s", line)
    for doubt in doubts(results["test"]):
        log.warning("%s", doubt)


def _results(run: Run, training_loop: TrainingLoop, best: TrainState) -> dict[str, Any]:
    """Evaluate the best state on valid and test: the content of `results.json`."""
    config, memory = run.config, training_loop.memory

    log.info("estimating the best state%s on valid and test", run.family.final_words)
    params = evaluated_params(best)
    blocks = run.family.results(
        run.keys, run.structure, params, run.fixed_rows, training_loop.heed_signals
    )
    return {
        "schema": 1,
        "model": config.model.name,
        "dataset": config.dataset.name,
        **({} if run.dataset.cut is None else {"cut": run.dataset.cut}),
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
        **blocks,
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
    }
