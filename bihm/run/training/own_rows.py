"""The rows of a run on data that nothing pins: noted when it begins, and others are refused."""

from functools import cache
from pathlib import Path

from bihm.config import Config
from bihm.data import Dataset, is_pinned, load
from bihm.errors import DataError
from bihm.records.digests import digest_arrays, noted_digest
from bihm.records.run_files import write_text

OTHER_ROWS = "name those to evaluate with dataset=FILE"
NOTE = ".rows"  # in a run directory; a dataset that is pinned needs none


def hold_to_its_rows(config: Config, dataset: Dataset, directory: Path) -> None:
    """See that data which nothing pins are the rows that this run began with, and note them.

    Raises:
        DataError: they are others, or the note is damaged.
    """
    if is_pinned(config.dataset.name, config.dataset.path):
        return
    noted = digest_of_rows(directory)
    _check(config, dataset, noted, f"when {directory} began", "choose another hydra.run.dir")
    write_text(directory / NOTE, f"{_digest(dataset)}\n")


def own_dataset(
    config: Config,
    stem: str,
    exported: str | None = None,
    or_else: str = OTHER_ROWS,
) -> Dataset:
    """The data of a run, for its estimates: with other rows its test would be rows it was trained on.

    `stem` is that of a `TrainedMachine`, and `exported` what a weights file notes of the rows. `or_else` is
    what to do when they cannot be put back.

    Raises:
        DataError: the data are missing or damaged, or not those that the run began with.
    """
    dataset = load(config.dataset.name, config.dataset.path)
    if not is_pinned(config.dataset.name, config.dataset.path):
        path = Path(stem[:-1])
        if exported is None:
            noted, began = digest_of_rows(path), f"when {path} began"
        else:
            noted, began = exported, f"those of the run that {path} is of"
        _check(config, dataset, noted, began, or_else)
    return dataset


def digest_of_rows(directory: Path) -> str | None:
    """What a run notes of its rows; None where its dataset is pinned.

    Raises:
        DataError: the note is damaged.
    """
    return noted_digest(directory / NOTE)


def are_its_rows(config: Config, directory: Path) -> bool:
    """Whether these are known to be the rows that a run began with."""
    name, path = config.dataset.name, config.dataset.path
    return is_pinned(name, path) or digest_of_rows(directory) == _digest_of(name, path)


def _check(config: Config, dataset: Dataset, noted: str | None, began: str, or_else: str) -> None:
    if noted is not None and noted != _digest(dataset):
        raise DataError(
            f"{config.dataset.path or dataset.name}: other rows than {began}; put them back, or {or_else}"
        )


def _digest(dataset: Dataset) -> str:
    return digest_arrays((dataset.train, dataset.valid, dataset.test))


@cache
def _digest_of(name: str, path: str | None) -> str:
    return _digest(load(name, path))
