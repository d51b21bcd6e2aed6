"""The pinned catalogue: what each dataset must be, and where it can be downloaded.

`sources.json` is the data; this file gives it types. Hashes are SHA-256 over an array's bytes as
stored (packed bits, or grey levels for `mnist`); `order_free_sha256` ignores the order of rows.
"""

import difflib
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bihm.errors import ConfigError

SPLITS = ("train", "valid", "test")


class File(NamedTuple):
    """One download; a file without `sha256` is checked by its git blob id."""

    url: str
    split: str  # "train", "valid", "test", "train+valid", "all", or an array's name
    bytes: int
    sha256: str | None
    git_blob_sha1: str | None

    @property
    def path(self) -> str:
        """The last part of the URL: the name of the file on disk."""
        return self.url.rsplit("/", 1)[-1]


class Source(NamedTuple):
    """One place that offers a whole dataset."""

    name: str
    format: str  # a key of bihm.data.parse.PARSERS
    files: tuple[File, ...]


class Entry(NamedTuple):
    """One dataset: shapes, hashes, licence and sources in order of preference."""

    name: str
    n_features: int
    image_shape: tuple[int, int] | None
    rows: dict[str, int]  # per split, as used
    sha256: dict[str, str | None]  # per array, as stored; None where nobody has seen the bytes yet
    order_free_sha256: dict[str, str]
    licence: str
    citation: tuple[str, ...]
    note: str
    sources: tuple[Source, ...]
    column_major: bool = False  # an image is x.reshape(width, height).T

    @property
    def grey(self) -> bool:
        """Whether rows are grey levels instead of bits."""
        return "x_train" in self.sha256


def _entry(name: str, raw: dict[str, Any]) -> Entry:
    def file(base: str, f: dict[str, Any]) -> File:
        hashes = f.get("sha256"), f.get("git_blob_sha1")
        return File(base + f["path"], f["split"], f["bytes"], *hashes)

    sources = tuple(
        Source(s["name"], s["format"], tuple(file(s["base"], f) for f in s["files"]))
        for s in raw["sources"]
    )
    shape = raw["image_shape"]
    fixed = {
        "image_shape": (shape[0], shape[1]) if shape else None,
        "citation": tuple(raw["citation"]),
        "sources": sources,
    }
    return Entry(name=name, **{**raw, **fixed})


@functools.cache
def catalogue() -> dict[str, Entry]:
    """Every dataset with a name of its own, by that name."""
    text = (Path(__file__).parent / "sources.json").read_text(encoding="utf-8")
    return {name: _entry(name, raw) for name, raw in json.loads(text).items()}


def names() -> tuple[str, ...]:
    """The names that `dataset=` knows without a file of the user's."""
    return tuple(catalogue())


def entry(name: str, entries: dict[str, Entry] | None = None, *, also: Iterable[str] = ()) -> Entry:
    """The entry called `name`; ConfigError that lists the names, and the user's `also`, for any other."""
    entries = catalogue() if entries is None else entries
    if name in entries:
        return entries[name]
    known = [*entries, *also]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(f"no dataset is called {name!r}; {hint}known: {', '.join(known)}")
