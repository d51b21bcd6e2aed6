"""Train, evaluate and sample: what the commands do, with a directory as the only memory between them."""

import importlib.metadata
import logging
import platform
from pathlib import Path
from typing import Any

import jax

from bihm import __version__
from bihm.build import Rig, first_state, make_rig, split_rows
from bihm.checkpoint import Checkpoint, Checkpoints
from bihm.config import Config, differences, flatten, load, to_yaml
from bihm.errors import ConfigError, Interrupted
from bihm.evaluation import block_of, block_size, estimate_log_z, estimate_split, table
from bihm.learner import TrainState, evaluated_params
from bihm.logbook import Logbook
from bihm.model import count_parameters
from bihm.progress import progress
from bihm.runfiles import lock, read_json, write_json, write_status, write_text
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
        except Interrupted as error:
            write_status(directory, "interrupted", str(error))
            raise
        except BaseException as error:
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
            steps = rig.config.epochs * rig.plan.steps_per_epoch
            with progress(steps, interactive, log) as shown:
                training = Training(rig, book, checkpoints, shown, stop, start)
                best = training.run()
            results = _results(rig, training, best)
        write_json(directory / "results.json", results)
        _log_end(book, training.step, results)
    except BaseException as error:
        if not isinstance(error, Interrupted | KeyboardInterrupt):
            book.session_end(0, {}, success=False)
        raise
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


def _results(rig: Rig, training: Training, best: TrainState) -> dict[str, Any]:
    """Evaluate the best state on valid and test: the content of `results.json`."""
    config, memory = rig.config, training.memory
    params = evaluated_params(best)
    log_z = None
    if config.model.name == "bihm":
        log_z = estimate_log_z(
            rig.keys.log_z,
            rig.structure,
            params,
            config.eval.final_z_outer,
            config.eval.z_inner,
            lambda done, total: training.heed_signals(),
        )
    K, blocks = config.eval.final_K, {}
    for name, key in (("test", rig.keys.test), ("valid", rig.keys.valid)):
        estimates = estimate_split(
            key,
            rig.structure,
            params,
            split_rows(rig.dataset, name),
            K,
            block=block_size(config.eval.K),
            report=lambda done, total: training.heed_signals(),
        )
        blocks[name] = block_of(estimates, K, log_z)
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
        **blocks,
        "device": jax.devices()[0].device_kind,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    names = ("jax", "flax", "optax", "orbax-checkpoint")
    packages = {name: importlib.metadata.version(name) for name in names}
    return {"bihm": __version__, "python": platform.python_version(), **packages}


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


def summary(results: dict[str, Any]) -> list[str]:
    """The end of a run in a few lines for a person."""
    train = results["train"]
    return [
        f"best epoch {train['best_epoch']} of {train['epochs']}, {train['seconds']:.1f} s, "
        f"stopped by {train['stopped_by']}",
        *table({name: results[name] for name in ("valid", "test")}),
    ]
