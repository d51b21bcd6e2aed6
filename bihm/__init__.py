"""Bidirectional Helmholtz machines, reweighted wake-sleep, wake-sleep, target propagation, in JAX.

For notebooks and other programs, beside the commands (`bihm-train --help`):

    import bihm

    run = bihm.train("model=bihm", "depth=3", directory="outputs/first")
    run.results["test"]["log_p"]                 # mean and standard error, nats per row
    machine = bihm.load("outputs/first")         # or a weights file that bihm-export wrote
    x = machine.rows("test")                     # or 0/1 rows of your own
    machine.log_p(x, K=1000)                     # one value a row, nats
    machine.sample(64)                           # uint8 (64, visible)
    machine.complete(x, "top")                   # the rest of each image, given its upper half
    machine.given(x, "top").log_p_missing        # and how likely the true one is, nats
    machine.posterior(x, K=100)                  # latents with weights
    bihm.mixture("outputs/first", "outputs/2")   # several machines as one model, an ensemble
    bihm.results("outputs")                      # all runs, ready for pandas.DataFrame

`help(bihm.load)`, `help(bihm.TrainedMachine)` and so on say more. The commands work through the same
functions: the same seed gives the same numbers, bit for bit. What goes wrong is a `bihm.BihmError` with a
message of one line. Importing this takes no device; jax is imported when a function first needs it, and how
jax is set up is the caller's affair (JAX_COMPILATION_CACHE_DIR keeps compiled programs for the next start).
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bihm.errors import BihmError, ConfigError, DataError, Interrupted, NumbersError
from bihm.paths import expand

if TYPE_CHECKING:
    from bihm.machine.likelihood import Estimates, LogZ
    from bihm.run.estimates.mixture import Mixture
    from bihm.run.estimates.posterior import Posterior
    from bihm.run.from_python import TrainedRun
    from bihm.run.trained import TrainedMachine

__version__ = "0.1.0"

__all__ = [
    "BihmError",
    "ConfigError",
    "DataError",
    "Estimates",
    "Interrupted",
    "LogZ",
    "Mixture",
    "NumbersError",
    "Posterior",
    "TrainedMachine",
    "TrainedRun",
    "load",
    "mixture",
    "results",
    "train",
]

_CLASSES = {  # what functions return, imported when somebody asks for it: they need jax
    "Estimates": "bihm.machine.likelihood",
    "LogZ": "bihm.machine.likelihood",
    "Mixture": "bihm.run.estimates.mixture",
    "Posterior": "bihm.run.estimates.posterior",
    "TrainedMachine": "bihm.run.trained",
    "TrainedRun": "bihm.run.from_python",
}


def load(path: str | os.PathLike[str]) -> "TrainedMachine":
    """Read a trained machine from a run directory, or from a weights file (.safetensors) of bihm-export.

    Of a run it is the best state so far, which may be one that still trains: nothing is changed. Weights go
    to the device that jax uses by default.

    Raises:
        ConfigError: nothing is there, or something else.
        DataError: it is damaged, or the run has no checkpoint yet.
    """
    from bihm.run.load import load

    return load(_path("path", path))


def mixture(*paths: str | os.PathLike[str]) -> "Mixture":
    """Read several trained machines of one dataset as one model, log p(x) = log sum_m w_m p_m(x).

        model = bihm.mixture("outputs/a", "outputs/b")
        model.log_p(model.machines[0].rows("test"), K=1000).mean(), model.weights

    The weights are fitted on valid by EM; the numbers are those of `bihm-eval run=A,B` with the same K.

    Raises:
        ConfigError: a path is neither run nor weights file, one is given twice, or their data differ.
        DataError: one is damaged, or the dataset is missing.
    """
    from bihm.run.estimates.mixture import Mixture
    from bihm.run.load import load

    return Mixture([load(_path("path", path)) for path in paths])


def train(*words: str, directory: str | os.PathLike[str] | None = None) -> "TrainedRun":
    """Train a machine, or go on training it, and return its results and itself: see `TrainedRun`.

        run = bihm.train("model=rws", "dataset=mushrooms", "K=20", directory="outputs/mushrooms")

    The words are those of bihm-train, and so are all checks; the numbers are the same. The directory, by
    default outputs/<dataset>/<model>-d<depth>/<time>, keeps checkpoints, logs and results: called again
    with the same words, it goes on from its last checkpoint, and once it has finished returns at once.

    Nothing is printed but warnings, on stderr. All lines that bihm-train prints go to `train.log` and to
    the logger "bihm", at level INFO: `logging.basicConfig(level="INFO", format="%(message)s")` shows them.
    SIGINT (in a notebook: interrupt the kernel) and SIGTERM end the run with a checkpoint. Called from
    several threads, one run waits for the other.

    Raises:
        ConfigError: a wrong word, or a directory that holds another run.
        DataError: data missing or damaged.
        NumbersError: a loss or a gradient was not finite.
        Interrupted: a signal came, and a checkpoint was written.
    """
    from bihm.cli.compose import DIRECTORY, compose_words

    config, folder = compose_words(words)
    if directory is not None:
        if any(word.partition("=")[0] == DIRECTORY for word in words):
            raise ConfigError(f"directory={directory} and {DIRECTORY} exclude each other")
        folder = _path("directory", directory)
    from bihm.run.from_python import train_run

    return train_run(config, Path(os.path.abspath(folder)))


def results(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All runs at or below a folder, each as one flat dictionary.

        pandas.DataFrame(bihm.results("outputs"))[["model.name", "depth", "test.log_p", "test.log_p_sem"]]

    Every row has the same keys: `directory`, `status` (finished, running, interrupted, failed, damaged)
    and `reason`; the configuration under its dotted names (`model.name`, `K`, `optim.lr`); the final
    numbers (`test.log_p`, `test.log_p_sem`, `test.log_p_star`, `train.seconds`), in nats per row and
    seconds. What a run does not have is None: unfinished and damaged runs appear with their status, and a
    finished one that goes on has no final numbers until it ends again.

    Raises:
        ConfigError: there is no such folder.
    """
    from bihm.records.runs import rows

    return rows(_path("folder", folder))


def _path(name: str, value: Any) -> Path:
    """A path that somebody gave, with ~ expanded; ConfigError where it is none."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"{name} must be the path of a file or folder, got {value!r}")
    return Path(expand(text))


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module 'bihm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_CLASSES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLASSES})
