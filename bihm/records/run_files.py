"""The small files of a run directory, each replaced whole or not at all."""

import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bihm import paths
from bihm.errors import ConfigError, DataError, cannot_write, writing

OWN_FILES = {"config.yaml", "results.json", "status.json", "metrics.jsonl", "train.log"}  # of a run


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees the old content or the new, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file atomically; OSError, naming it, where the disk refuses."""
    with paths.replaced(path) as stream:
        stream.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, indented; a NaN or an infinity becomes null."""
    write_text(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def write_status(directory: Path, state: str, reason: str = "") -> None:
    """Say whether a run is running, finished, interrupted or failed, and why."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    status = {"status": state, "reason": reason, "time": now, "pid": os.getpid()}
    write_json(directory / "status.json", status)


def place(
    out: str | None,
    default: Path,
    ending: str = "",
    *,
    beside: Sequence[str] = (),
    reads: Iterable[str | None] = (),
    replaces: bool = False,
) -> Path:
    """Where a file goes that somebody is about to compute: where it is by default, or where `out` says.

    `out` is a file with this ending, or a folder, in which the file has the name it has by default. The
    folder is tried, so that nobody computes for an hour what cannot be written. Files of the endings
    `beside` may be written next to it. Nothing is written over what the command `reads`, nor over what may
    be others': a file `beside` without the one that it belongs to, and in another folder than the default
    one whatever has the default name, unless it may be replaced (`replaces`).

    Raises:
        ConfigError: no such folder, one that cannot be written, another ending, or something in the way.
        OSError: the disk has no room or is broken.
    """
    path = default if out is None else Path(paths.expand(out))
    in_folder = out is not None and (os.path.isdir(path) or out.endswith("/"))
    if in_folder:
        path = path / default.name
    elif path.suffix != ending and ending:
        raise ConfigError(f"out={out} must end in {ending}, or be a folder")
    if not os.path.isdir(path.parent):  # Path.is_dir raises on a name that is too long
        raise ConfigError(f"{path}: there is no folder {path.parent}")
    others = [path.with_suffix(one) for one in beside]
    for file in (path, *others):
        _check_free(file, [one for one in reads if one is not None])
    for file in others:
        if out is not None and os.path.exists(file) and not os.path.exists(path):
            raise ConfigError(
                f"{file} is there, but no {path.name} that it belongs to; choose another out="
            )
    if (
        in_folder
        and not replaces
        and os.path.exists(path)
        and not _same(path.parent, default.parent)
    ):
        raise ConfigError(f"{path} is there and may be another run's; name the file itself in out=")
    try:
        with writing(path.parent), tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise cannot_write(error, "out=") or error from error


def _check_free(path: Path, reads: Sequence[str]) -> None:
    """Refuse a file that nothing may be written over; ConfigError."""
    if os.path.isdir(path):
        raise ConfigError(f"{path} is a folder, where a file is to go")
    if os.path.lexists(path) and not os.path.isfile(path):  # a device, a pipe, a link to nothing
        raise ConfigError(f"{path} is there and is no regular file; choose another out=")
    if path.name in OWN_FILES and (path.parent / "config.yaml").is_file():
        raise ConfigError(f"{path} is a run's own file; choose another out=")
    if any(_same(path, one) for one in reads):
        raise ConfigError(f"{path} is read by this command; choose another out=")


def _same(one: Path | str, other: Path | str) -> bool:
    """Whether both are there and are one file or folder."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def require_run(
    directory: Path, key: str = "run", known_by: Iterable[str] = ("config.yaml",)
) -> Path:
    """Return the directory if it holds a run: a file by which one is known.

    Raises:
        ConfigError: there is no run in it.
    """
    # Path.is_file raises on a name that is too long
    if not any(os.path.isfile(directory / name) for name in known_by):
        reason = "it has no config.yaml" if os.path.exists(directory) else "there is no such folder"
        if os.path.isfile(directory):
            reason = "it is a file"
            if os.path.isfile(directory.with_name("config.yaml")):
                reason += f"; its folder is {key}={directory.parent}"
            elif directory.suffix == ".safetensors":
                reason += "; bihm-eval reads one as weights=FILE"
        raise ConfigError(f"{key}={directory} is not a run directory: {reason}")
    return directory


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and content - content != 0:
        return None
    return content
