"""The data room: datasets by name or from a user's file, checked before anyone trains on them."""

from bihm.data.bars import BARS_ENTROPY, bars_distribution
from bihm.data.catalogue import Entry, entry, names
from bihm.data.dataset import Dataset, find, is_pinned, load, load_for, peek_width, require
from bihm.data.fetch import fetch
from bihm.data.imports import import_file

__all__ = [
    "BARS_ENTROPY",
    "Dataset",
    "Entry",
    "bars_distribution",
    "entry",
    "fetch",
    "find",
    "import_file",
    "is_pinned",
    "load",
    "load_for",
    "names",
    "peek_width",
    "require",
]
