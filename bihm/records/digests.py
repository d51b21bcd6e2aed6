"""Digests that tell whether what is read is what was written, to the last bit."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bihm.errors import DataError


def digest_text(content: Any) -> str:
    """SHA-256 of JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest_arrays(tree: Any) -> str:
    """SHA-256 over the name, type, shape and bytes of every array of a tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def noted_digest(path: Path) -> str | None:
    """What a file notes, if it is there.

    Raises:
        DataError: it holds no digest.
    """
    if not path.is_file():
        return None
    noted = path.read_text(errors="replace").strip()
    if re.fullmatch("[0-9a-f]{64}", noted) is None:
        raise DataError(f"{path} is damaged; remove it if what the run began with is unchanged")
    return noted
