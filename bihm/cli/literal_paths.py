"""Words whose value is a path are read literally; Hydra's grammar would trip over `(1)` or `=`."""

import os
import re

from hydra.core.override_parser.types import Quote, QuotedString

from bihm import paths

HYDRAS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.output_subdir")
KEYS = ("dataset.path", "init.from", *HYDRAS)
FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(")  # of a sweep


def quote(word: str, sweep: bool) -> str:
    """Quote the value of a word whose key holds a path; any other word as it is.

    What is quoted already stays, and `${now:%Y}` goes on being replaced. In a sweep a comma separates
    values, unless there is a file of the whole name.
    """
    key, _, text = word.partition("=")
    name = key.lstrip("+")
    if name not in KEYS:
        return word
    values = split(text, sweep and name not in HYDRAS)
    if values is None:
        return word
    return f"{key}=" + ",".join(QuotedString(v, Quote.single).with_quotes() for v in values)


def split(text: str, sweep: bool) -> list[str] | None:
    """The paths that a value names; None where it is for Hydra to read."""
    if os.path.lexists(text):
        return [paths.expand(text)]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if text in ("", "null") or quoted:
        return None
    if not sweep:
        return [paths.expand(text)]
    values = text.split(",")
    if FUNCTION.match(text) or "" in values or (len(values) > 1 and re.search(r"['\"]|\$\{", text)):
        return None
    return [paths.expand(value) for value in values]
