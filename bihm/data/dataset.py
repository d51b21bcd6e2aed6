"""Datasets by name: found, checked against the pinned hashes, unpacked."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm import paths
from bihm.data import archive, bars, files, imports, splits
from bihm.data.catalogue import SPLITS, Entry, catalogue, entry
from bihm.data.files import peek_width
from bihm.errors import ConfigError, DataError

__all__ = [
    "Dataset",
    "check_rows",
    "check_stored",
    "find",
    "folders",
    "is_pinned",
    "load",
    "load_for",
    "peek_width",
    "require",
]

HERE = Path(__file__).parent


class Dataset(NamedTuple):
    """Three splits of rows.

    train, valid, test   uint8 (rows, n_features): 0 and 1, or grey levels 0..255 if `grey`
    image_shape          (height, width) if a row is an image
    grey                 binarise anew at every use with P(x_i = 1) = value / 255
    column_major         look at an image by x.reshape(width, height).T
    cut                  how one table of a user's was cut into the three; None if nobody cut
    notes                lines that a person should read before the numbers: how a file was read
    """

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    image_shape: tuple[int, int] | None = None
    grey: bool = False
    column_major: bool = False
    cut: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_features(self) -> int:
        """Values per row."""
        return int(self.train.shape[1])

    @property
    def train_mean(self) -> np.ndarray:
        """How often each value is 1 in training, float64 (n_features,)."""
        mean: np.ndarray = self.train.mean(axis=0) / (255 if self.grey else 1)
        return mean


def folders() -> list[Path]:
    """Where NAME.npz is looked for, in order: $BIHM_DATA if set, the user's cache."""
    given = os.environ.get("BIHM_DATA")
    return ([Path(given)] if given else []) + [paths.cache() / "data"]


def find(name: str) -> Path | None:
    """The file that `load(name)` would read; None if there is none yet."""
    if name == "digits":
        return HERE / "digits.npz"
    candidates = (folder / f"{name}.npz" for folder in folders())
    return next((path for path in candidates if os.path.isfile(path)), None)


def check_rows(wanted: Entry, arrays: dict[str, np.ndarray], where: str) -> list[str]:
    """Compare arrays with their pinned hashes; returns the splits whose rows have another order.

    DataError, naming `where` and the split, for any other difference.
    """
    reordered = []
    for key, pinned in wanted.sha256.items():
        if key not in arrays:
            continue
        got = archive.digest(arrays[key])
        if pinned is None or got == pinned:
            continue
        free = wanted.order_free_sha256.get(key)
        if free is None or archive.order_free_digest(arrays[key]) != free:
            raise DataError(
                f"{where}: {key} is not {wanted.name}'s: SHA-256 {got[:12]}.., "
                f"pinned {pinned[:12]}..; put the right file there, or remove it and fetch it again"
            )
        reordered.append(key)
    return reordered


def _shapes(wanted: Entry) -> dict[str, tuple[int, ...]]:
    """The arrays a stored file must have, with their shapes."""
    if wanted.grey:
        side = wanted.image_shape or (1, wanted.n_features)
        rows = {"x_train": wanted.rows["train"] + wanted.rows["valid"]}
        rows["x_test"] = wanted.rows["test"]
        return {key: (n, *side) for key, n in rows.items()}
    width = -(-wanted.n_features // 8)
    return {split: (wanted.rows[split], width) for split in SPLITS}


def check_stored(wanted: Entry, path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a stored NAME.npz, checked, and the splits whose rows have another order."""
    arrays = archive.read_npz(path)
    for key, shape in _shapes(wanted).items():
        if key not in arrays:
            raise DataError(f"{path}: has no array {key!r}; it holds {', '.join(arrays) or 'none'}")
        if arrays[key].dtype != np.uint8 or arrays[key].shape != shape:
            got = f"{arrays[key].dtype} {arrays[key].shape}"
            raise DataError(f"{path}: {key} is {got}; {wanted.name} has uint8 {shape}")
    if not wanted.grey:
        width = arrays.get("n_features")
        if width is None or width.size != 1 or int(width.item()) != wanted.n_features:
            raise DataError(f"{path}: n_features must be {wanted.n_features}")
        for split in SPLITS:
            files.check_padding(arrays[split], wanted.n_features, path, split)
    return arrays, check_rows(wanted, arrays, str(path))


def _splits(wanted: Entry, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if wanted.grey:
        train = arrays["x_train"].reshape(-1, wanted.n_features)
        test = arrays["x_test"].reshape(-1, wanted.n_features)
        count = wanted.rows["train"]  # the rest of the file's own train is valid, as is usual
        return {"train": train[:count], "valid": train[count:], "test": test}
    return {split: archive.unpack(arrays[split], wanted.n_features) for split in SPLITS}


def _named(wanted: Entry) -> dict[str, np.ndarray]:
    if wanted.name == "bars":
        rows = bars.generate()
        check_rows(wanted, rows, "the generated bars")
        return rows
    path = find(wanted.name)
    if path is None:
        places = " or ".join(str(folder) for folder in folders())
        raise DataError(
            f"{wanted.name}.npz is missing: run `bihm-data fetch {wanted.name}`, "
            f"or put {wanted.name}.npz into {places}"
        )
    return _splits(wanted, check_stored(wanted, path)[0])


def _own_file(name: str, path: str | None) -> Path | None:
    """The user's file behind a dataset: the one at `path`, or the import called `name`."""
    if path is None:
        return imports.paths(name).data if name in imports.imported() else None
    if name in catalogue():
        raise ConfigError(
            f"dataset.path has no meaning with dataset={name}; a file is dataset=file dataset.path=FILE"
        )
    return Path(paths.expand(path))


def is_pinned(name: str, path: str | None) -> bool:
    """Whether hashes of ours pin the rows: not those of a user's data, nor of splits not seen yet."""
    return _own_file(name, path) is None and None not in entry(name).sha256.values()


def require(name: str, path: str | None = None) -> None:
    """Raise at once, from headers alone, what `load` would say about data that are not there."""
    if (own := _own_file(name, path)) is not None:
        peek_width(str(own))
    elif name != "bars" and find(name) is None:
        load(name)


def load(name: str, path: str | None = None, missing: bool = False) -> Dataset:
    """The dataset called `name`, pinned or imported, or the user's file at `path` under that name.

    With `missing`, rows of a user's file may lack values, which are MISSING then.
    ConfigError for an unknown name; DataError for a file that is missing, damaged or not 0/1.
    """
    if (own := _own_file(name, path)) is not None:
        found = splits.read(own, missing)
        if found.cut is None and (cut := imports.cut_of(own)) is not None:
            found = found._replace(cut=cut, notes=(f"{name}: {cut}, when it was imported",))
        return Dataset(name, *found[:3], cut=found.cut, notes=found.notes)
    if name == "file":
        raise ConfigError(f"dataset=file needs dataset.path=FILE ({files.ENDINGS})")
    wanted = entry(name, also=imports.imported())
    rows = _named(wanted)
    return Dataset(
        name,
        train=rows["train"],
        valid=rows["valid"],
        test=rows["test"],
        image_shape=wanted.image_shape,
        grey=wanted.grey,
        column_major=wanted.column_major,
    )


def load_for(n_features: int, path: str, missing: bool = False) -> Dataset:
    """The user's file at `path` for a machine of that width; arguments and errors are those of `load`.

    A feature that no row has on is not in a LIBSVM file, so a narrower one is made as wide.
    """
    found = load("file", path, missing)
    lacking = n_features - found.n_features
    if lacking <= 0 or files.ending(Path(path)) not in files.LIBSVM:
        return found
    train, valid, test = (
        np.pad(rows, ((0, 0), (0, lacking))) for rows in (found.train, found.valid, found.test)
    )
    return found._replace(train=train, valid=valid, test=test)
