"""Digests that tell whether what is read is what was written, to the last bit."""

import hashlib
import json
from typing import Any

import jax
import numpy as np


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
