"""Train, evaluate and sample: what the commands do, with a directory as the only memory between them."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bihm.build import (
    Keys,
    Rig,
    first_state,
    make_keys,
    make_rig,
    phases,
    saved_like,
    split_rows,
)
from bihm.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from bihm.config import Config, differences, flatten, load, to_yaml
from bihm.data import archive
from bihm.data import load as load_dataset
from bihm.errors import ConfigError, Interrupted, NumbersError
from bihm.evaluation import Report, block_size, estimate_log_z, estimate_split
from bihm.learner import TrainState, evaluated_params
from bihm.likelihood import LogZ
from bihm.logbook import Logbook
from bihm.model import Params, Structure, count_parameters
from bihm.progress import progress
from bihm.results import block_of, per_example_arrays, summary, versions
from bihm.runfiles import (
    lock,
    read_json,
    require_run,
    write_json,
    write_status,
    write_text,
)
from bihm.signals import stop_request
from bihm.training import Training

log = logging.getLogger("bihm")


def train(config: Config, directory: Path, interactive: bool = False) -> dict[str, Any]:
    """Train, or go on training, in a run directory, and return what its `results.json` says.

    Raises:
        BihmError: the run could not start, broke, or was interrupted; `status.json` says which.
    """
    rig = make_rig(config)  # refuses what cannot work before anything is written
    directory.mkdir(parents=True, exist_ok=True)
    with lock(directory):
        _claim(config, directory)
        finished = _finished(directory)
        if finished is not None:
            return finished
        write_status(directory, "running")
        try:
            results = _train(rig, directory, interactive)
        except (Interrupted, KeyboardInterrupt) as error:
            write_status(directory, "interrupted", str(error) or "by the keyboard, at once")
            raise
        except BaseException as error:
            with contextlib.suppress(OSError):  # a full disk has its say first
                write_status(directory, "failed", f"{type(error).__name__}: {error}")
            raise
        write_status(directory, "finished")
        return results


def _claim(config: Config, directory: Path) -> None:
    """Write `config.yaml`, or see that the one that is there asks for the same run."""
    path = directory / "config.yaml"
    if path.is_file():
        changed = differences(load(path), config)
        if changed:
            raise ConfigError(
                f"{directory} holds another run: {', '.join(changed)}; choose another hydra.run.dir"
            )
    write_text(path, to_yaml(config))


def _finished(directory: Path) -> dict[str, Any] | None:
    """The results of a run that has ended already."""
    path = directory / "results.json"
    if not path.is_file() or read_json(directory / "status.json").get("status") != "finished":
        return None
    results: dict[str, Any] = read_json(path)
    log.info("%s has finished already; nothing to do", directory)
    for line in summary(results):
        log.info("%s", line)
    return results


def _train(rig: Rig, directory: Path, interactive: bool) -> dict[str, Any]:
    checkpoints = Checkpoints(directory / "checkpoints")
    start = checkpoints.restore(first_state(rig))
    book = Logbook(directory, None if start is None else int(start.latest.step))
    try:
        book.hparams(flatten(rig.config))
        book.text(0, "config", f"```yaml\n{to_yaml(rig.config)}```")
        _greet(rig, start)
        with stop_request() as stop:
            epochs = sum(phase.epochs or 0 for phase in phases(rig.config))
            steps = epochs * rig.plan.steps_per_epoch
            with progress(steps, interactive, log) as shown:
                training = Training(rig, book, checkpoints, shown, stop, start)
                best = training.run()
            results = _results(rig, training, best)
        write_json(directory / "results.json", results)
        _log_end(book, training.step, results)
    except NumbersError as error:
        book.session_end(0, {}, success=False)
        raise NumbersError(f"{error}; last good checkpoint: {checkpoints}") from error
    finally:
        book.close()
        checkpoints.close()
    return results


def _greet(rig: Rig, start: Checkpoint | None) -> None:
    config, dataset = rig.config, rig.dataset
    log.info(
        "%s on %s: %d-%s, %s parameters, %d training rows, K=%d, on %s",
        config.model.name,
        config.dataset.name,
        dataset.n_features,
        "-".join(map(str, config.layers or [])),
        f"{count_parameters(rig.params):,}",
        len(dataset.train),
        config.K,
        jax.devices()[0].device_kind,
    )
    if start is not None:
        log.info("going on from the checkpoint of step %d", int(start.latest.step))


def _log_end(book: Logbook, step: int, results: dict[str, Any]) -> None:
    """Show the final numbers to TensorBoard's HPARAMS tab and to the person."""
    final = {
        f"final/{split}/{name}": results[split][name]["mean"]
        for split in ("test", "valid")
        for name in ("log_p", "log_p_tilde_star", "log_p_star", "two_log_z")
        if name in results[split]
    }
    book.session_end(step, final, success=True)
    for line in summary(results):
        log.info("%s", line)


def _results(rig: Rig, training: Training, best: TrainState) -> dict[str, Any]:
    """Evaluate the best state on valid and test: the content of `results.json`."""
    config, memory = rig.config, training.memory

    def assess(split: str) -> dict[str, Any]:
        return block_of(
            estimate_split(
                getattr(rig.keys, split),
                rig.structure,
                params,
                split_rows(rig.dataset, split),
                config.eval.final_K,
                block=block_size(config.eval.K),
                report=heed,
            ),
            config.eval.final_K,
            log_z,
        )

    def heed(done: int, total: int) -> None:
        training.heed_signals()

    log.info("estimating the best state, K=%d, on valid and test", config.eval.final_K)
    params = evaluated_params(best)
    log_z = _log_z(config, rig.keys, rig.structure, params, heed)
    return {
        "schema": 1,
        "model": config.model.name,
        "dataset": config.dataset.name,
        "layers": config.layers,
        "parameters": count_parameters(rig.params),
        "seed": config.seed,
        "train": {
            "epochs": training.epoch,
            "steps": training.step,
            "best_epoch": memory.best_epoch,
            "seconds": round(memory.seconds, 3),
            "stopped_by": memory.stopped_by,
        },
        "test": assess("test"),
        "valid": assess("valid"),
        "device": jax.devices()[0].device_kind,
        "versions": versions(),
    }


def _log_z(
    config: Config, keys: Keys, structure: Structure, params: Params, report: Report
) -> LogZ | None:
    if config.model.name != "bihm":
        return None
    outer, inner = config.eval.final_z_outer, config.eval.z_inner
    return estimate_log_z(keys.log_z, structure, params, outer, inner, report)


def evaluate(
    directory: Path,
    *,
    split: str,
    K: int,
    dataset: str | None = None,
    per_example: bool = False,
    report: Report = lambda done, total: None,
) -> dict[str, Any]:
    """Estimate the best state of a run again, on any split of any dataset of its width.

    Writes `eval-<split>-K<K>.json` (with the dataset's name in it, when that is another one) into the run
    directory, and with `per_example` a `.npz` beside it with one value per row.

    Raises:
        ConfigError: no run there, or a dataset of another width.
        DataError: data or checkpoint missing or damaged.
    """
    config = load(require_run(directory) / "config.yaml")
    rows = _rows(config, dataset, split)
    structure, like = saved_like(config)
    params = evaluated_params(read_checkpoint(directory, like).best)
    keys = make_keys(config.seed)
    log_z = _log_z(config, keys, structure, params, lambda done, total: None)
    key = getattr(keys, split)
    estimates = estimate_split(key, structure, params, rows, K, report=report)
    block = block_of(estimates, K, log_z)
    other = "" if dataset in (None, config.dataset.name) else f"{Path(str(dataset)).stem}-"
    stem = f"eval-{other}{split}-K{K}"
    write_json(directory / f"{stem}.json", block)
    if per_example:
        archive.write_npz(directory / f"{stem}.npz", per_example_arrays(estimates, log_z))
    return block


def _rows(config: Config, name: str | None, split: str) -> np.ndarray:
    """The rows to evaluate: of the run's own dataset, of another one, or of a file."""
    if name is None:
        dataset = load_dataset(config.dataset.name, config.dataset.path)
    elif Path(name).suffix:
        dataset = load_dataset("file", name)
    else:
        dataset = load_dataset(name)
    if dataset.n_features != config.dataset.n_features:
        raise ConfigError(
            f"{dataset.name} has {dataset.n_features} features; this run's machine has "
            f"{config.dataset.n_features} visible units"
        )
    return split_rows(dataset, split)
