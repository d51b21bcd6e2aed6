"""Weights for others: one safetensors file with the parameters, and in its metadata what they are of.

The metadata has one entry, `bihm`: JSON with the number of this format, the version that wrote it, the
resolved configuration, a digest of the rows it was trained on, where nothing pins those, and one of all of
it and the arrays. Such a file is data: nothing in it is executed, imported or looked up.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bihm import __version__
from bihm.config import Config, from_dict, to_dict
from bihm.errors import ConfigError, DataError
from bihm.records.digests import digest_arrays, digest_text
from bihm.records.run_files import write_bytes

ENTRY = (
    "bihm"  # a single one: safetensors writes several in any order, and equal runs make equal files
)
FORMAT = 1

Arrays = dict[str, np.ndarray]  # float32, by the parameter's name, as p.0.w


class Exported(NamedTuple):
    """What a weights file holds."""

    config: Config
    arrays: Arrays
    rows: str | None  # a digest of the rows that the run began with; None where they are pinned


def write(path: Path, exported: Exported) -> None:
    """Write a weights file that is whole or absent; OSError where the disk refuses."""
    config, arrays, rows = exported
    facts = {"format": FORMAT, "version": __version__, "config": to_dict(config)}
    if rows is not None:
        facts["rows"] = rows
    facts["sha256"] = _digest(facts, arrays)
    write_bytes(path, save(arrays, metadata={ENTRY: json.dumps(facts)}))


def read(path: Path) -> Exported:
    """Read what `write` wrote.

    Raises:
        DataError: one line on a file that is missing, damaged, altered or of another kind.
    """
    if not os.path.isfile(path):  # Path.is_file raises on a name that is too long
        raise DataError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = _facts((file.metadata() or {}).get(ENTRY))
            arrays = {name: _array(file, name) for name in file.keys()}  # noqa: SIM118
        if facts["sha256"] != _digest(facts, arrays):
            raise DataError("altered: what it holds is not what was written")
        return Exported(from_dict(facts["config"]), arrays, facts.get("rows"))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged, or not a safetensors file ({error})") from error
    except (DataError, ConfigError) as error:
        raise DataError(f"{path}: {error}") from error


def _facts(text: str | None) -> dict[str, Any]:
    if text is None:
        raise DataError("not written by bihm-export: its metadata have no entry bihm")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("damaged: the entry bihm of its metadata is not JSON") from error
    if not isinstance(facts, dict) or not facts.keys() >= {"format", "config", "sha256"}:
        raise DataError("damaged: the entry bihm of its metadata lacks format, config or sha256")
    if facts["format"] != FORMAT:
        raise DataError(f"format {facts['format']!r}; this version of bihm reads format {FORMAT}")
    return facts


def _array(file: Any, name: str) -> np.ndarray:
    kind = file.get_slice(name).get_dtype()
    if kind != "F32":  # numpy does not even know some of the others
        raise DataError(f"{name} is {kind}; the parameters of a machine are F32")
    array: np.ndarray = file.get_tensor(name)
    return array


def _digest(facts: dict[str, Any], arrays: Arrays) -> str:
    text = {key: value for key, value in facts.items() if key != "sha256"}
    return digest_text([text, digest_arrays(arrays)])
