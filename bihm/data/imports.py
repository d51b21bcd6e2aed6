"""A user's file made a dataset of its own name: packed in the cache, with a config group file."""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm.data import archive, splits
from bihm.data.catalogue import SPLITS, catalogue
from bihm.errors import ConfigError, DataError
from bihm.paths import cache

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# YAML or Hydra would read these as a value instead of a word.
RESERVED = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"})
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # a path that YAML reads as it stands


class Imported(NamedTuple):
    """Where the files of an import are."""

    data: Path  # NAME.npz, packed
    about: Path  # NAME.json: where it came from, shapes, hashes
    config: Path  # NAME.yaml, for Hydra's group `dataset`


def paths(name: str) -> Imported:
    """Where an import called `name` is, or would be."""
    data = cache() / "data"
    config = cache() / "configs" / "dataset" / f"{name}.yaml"
    return Imported(data / f"{name}.npz", data / f"{name}.json", config)


def imported() -> list[str]:
    """The names of the user's imports."""
    found = sorted(path.stem for path in paths("x").config.parent.glob("*.yaml"))
    return [name for name in found if NAME.fullmatch(name) and name not in catalogue()]


def _check_name(name: str, force: bool) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a dataset: small letters, digits and _ only, a letter first, "
            "at most 64"
        )
    if name in catalogue() or name == "file":
        raise ConfigError(f"{name!r} is the name of a built-in dataset; choose another")
    if name == "all":
        raise ConfigError("'all' stands for every dataset; choose another name")
    if name in RESERVED:
        raise ConfigError(f"{name!r} is a word with a meaning in YAML; choose another name")
    if not force and any(path.exists() for path in paths(name)):
        raise ConfigError(f"{name!r} is imported already; --force replaces it")


def _read(file: Path, valid: Path | None, test: Path | None) -> splits.Splits:
    """The splits of one file, or of one file each."""
    if valid is None and test is None:
        return splits.read(file)
    if valid is None or test is None:
        raise ConfigError("--valid and --test go together: give both files, or neither")
    for one, other in itertools.combinations((file, valid, test), 2):
        if os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other):
            raise ConfigError(
                f"{one} and {other} are one file: rows to choose on and to test on must be others"
            )
    return splits.read_three((file, valid, test))


def _config(name: str, n_features: int, data: Path) -> str:
    path = str(data.absolute())
    quoted = path if PLAIN.fullmatch(path) else json.dumps(path, ensure_ascii=False)
    return f"name: {name}\nn_features: {n_features}\nimage_shape: null\npath: {quoted}\n"


def import_file(
    file: Path,
    name: str,
    valid: Path | None = None,
    test: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Check a user's file and store it under `name`, so that `dataset=NAME` finds it.

    `say` is told, a line each, how the file was read and cut.

    ConfigError for a name that is wrong or taken; DataError for a file with anything but 0/1 rows.
    """
    _check_name(name, force)
    found = _read(file, valid, test)
    n_features = found.train.shape[1]
    packed = {split: archive.pack(rows) for split, rows in zip(SPLITS, found[:3], strict=True)}
    about = {
        "name": name,
        "source": [path.name for path in (file, valid, test) if path is not None],
        "cut": found.cut,
        "n_features": n_features,
        "rows": {split: len(rows) for split, rows in packed.items()},
        "sha256": {split: archive.digest(rows) for split, rows in packed.items()},
    }
    target = paths(name)
    archive.write_text(target.about, json.dumps(about, indent=1) + "\n")
    archive.write_npz(target.data, {**packed, "n_features": np.array(n_features, dtype=np.int64)})
    # Last, since this is what makes `dataset=NAME` known.
    archive.write_text(target.config, _config(name, n_features, target.data))
    for note in found.notes:
        say(note)
    return target


def describe(name: str) -> dict[str, int]:
    """Rows per split and `n_features` of an import; DataError if its NAME.json is lost."""
    about = _about(name)
    return {**about["rows"], "n_features": about["n_features"]}


def _about(name: str) -> dict:
    path = paths(name).about
    with archive.guarded(path, "the record of an import"):
        about = json.loads(path.read_text(encoding="utf-8"))
        if set(about["rows"]) != set(SPLITS) or set(about["sha256"]) != set(SPLITS):
            raise DataError(
                f"{path}: is no record of an import; import the file again with --force"
            )
        return dict(about)


def cut_of(path: Path) -> str | None:
    """How the single table behind an import's NAME.npz was cut into splits; None if it was not.

    None too for any other file, and where NAME.json is lost, which only `bihm-data check` needs.
    """
    if path.absolute() != paths(path.stem).data.absolute():
        return None
    with contextlib.suppress(DataError, AttributeError):
        cut = _about(path.stem).get("cut")
        return cut if isinstance(cut, str) else None
    return None


def check_import(name: str) -> Path:
    """Compare an import with the hashes taken when it was made; DataError."""
    about, path = _about(name), paths(name).data
    arrays = archive.read_npz(path)
    for split in SPLITS:
        if split not in arrays or archive.digest(arrays[split]) != about["sha256"][split]:
            raise DataError(
                f"{path}: {split} has changed since it was imported; import it again with --force"
            )
    return path
