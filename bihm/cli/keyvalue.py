"""`key=value` arguments for the commands that are not Hydra apps: a dataclass says which keys there are.

A value is taken literally, so a path may hold spaces, commas, `=` and `${`; YAML, which Hydra and OmegaConf
read values as, would turn the directory `007` into 7.
"""

import dataclasses
import difflib
import math
import os
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from bihm import __version__, paths
from bihm.errors import ConfigError

Schema = TypeVar("Schema")

COMMON = "--version prints the version; BIHM_TRACEBACK=1 shows where an error came from."
WANTED = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    list[int]: "a whole number, or several as [1,10,100]",
    list[str]: "a text, or several with commas between them",
}


def parse(argv: Sequence[str] | None, schema: type[Schema], program: str, usage: str) -> Schema:
    """Turn `key=value` words into a `schema`; None stands for the process's own arguments.

    A field is an int, float, bool, str, list[int], list[str] or Literal of strings, perhaps `| None` (the
    word null); one without a default must be given. A list is [1,10,100], or one number; one of texts is
    A,B,C, or the key given several times. `--help` or `-h` prints `usage` and exits with 0.

    Raises:
        ConfigError: one line on an unknown, repeated or missing key, or a value of the wrong type.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "--help" in words or "-h" in words:
        print(f"{usage.rstrip()}\n\n{COMMON}")
        sys.exit(0)
    if "--version" in words:
        print(f"{program} {__version__}")
        sys.exit(0)
    hints = typing.get_type_hints(schema)
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if key not in hints:
            raise ConfigError(_unknown(word if not equals else key, list(hints), program))
        if not equals or not text:
            raise ConfigError(f"{key} needs a value: {key}=...")
        value = _convert(key, text, hints[key])
        if key in values and hints[key] != list[str]:
            raise ConfigError(f"{key} is given twice")
        values[key] = [*values[key], *value] if key in values else value
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if no_default and field.name not in values:
            raise ConfigError(f"{field.name}=... is missing; `{program} --help` shows all keys")
    return schema(**values)


def _unknown(key: str, known: list[str], program: str) -> str:
    close = difflib.get_close_matches(key.lstrip("-+~"), known, 1)
    if not close and "run" in known and os.path.exists(key):
        close = [f"run={key}"]
    hint = f"; did you mean {close[0]!r}?" if close else f"; `{program} --help` shows all keys"
    return f"there is no key {key!r}{hint}"


def _convert(key: str, text: str, hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        if text == "null":
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if text not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {text!r}")
        return text
    try:
        return _read(text, hint)
    except ValueError as error:
        raise ConfigError(f"{key} must be {WANTED[hint]}, got {text!r}") from error


def _read(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind is str:
        return paths.expand(text)  # a path, mostly; nothing else begins with ~
    if kind is int:
        return _whole(text)
    if kind == list[str]:
        return split_names(text)
    if kind == list[int]:
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return [_whole(part) for part in inner.split(",")]
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(text)
    return value


def split_names(text: str) -> list[str]:
    """Files or folders with commas between them; a name that holds a comma is one, if it is there.

    Raises:
        ConfigError: one has no name; Path("") would be the working directory.
    """
    if text.startswith("[") and text.endswith("]") and not os.path.lexists(text):
        raise ConfigError(f"run={text}: several are given as run=A,B, without brackets")
    parts = [text] if os.path.lexists(text) else text.split(",")
    if not all(parts):
        raise ConfigError("run= has an empty name between commas")
    return [paths.expand(part) for part in parts]


def _whole(text: str) -> int:
    """An integer, or a number such as 1e5 that is one."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise
        return int(value)
