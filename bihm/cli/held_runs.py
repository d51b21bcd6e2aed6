"""The runs in a sweep's folder, by what they hold."""

import contextlib
from functools import cache
from pathlib import Path

from bihm.config import Config, flatten, load
from bihm.errors import BihmError

OF_DATA = ("layers", "dataset.n_features")  # of a file: not known before it is read


@cache
def held(path: Path) -> Config | None:
    """The configuration of a run, from its file; None where that is damaged, which the job itself says."""
    with contextlib.suppress(BihmError):
        return load(path)
    return None


def different(saved: Config, config: Config) -> set[str]:
    """The keys in which a run's configuration and that of a job differ."""
    before, after = flatten(saved), flatten(config)
    for key in OF_DATA:
        if after[key] is None:
            after[key] = before[key]
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def are_in(folder: Path) -> bool:
    """Whether there are runs right below a folder."""
    return bool(_by_content(folder))


def runs_of(folder: Path, config: Config) -> list[tuple[str, Config]]:
    """Name and configuration of the runs right below a folder that are runs of this configuration."""
    alike = _by_content(folder).get(_key(config), [])
    return [(name, saved) for name, saved in alike if not different(saved, config)]


@cache
def _by_content(folder: Path) -> dict[int, list[tuple[str, Config]]]:
    found: dict[int, list[tuple[str, Config]]] = {}
    for path in sorted(folder.glob("*/config.yaml")):
        if (saved := held(path)) is not None:
            found.setdefault(_key(saved), []).append((path.parent.name, saved))
    return found


def _key(config: Config) -> int:
    return hash(tuple(f"{k}={v}" for k, v in flatten(config).items() if k not in OF_DATA))


def forget() -> None:
    """Look at the folders anew: another sweep begins."""
    held.cache_clear()
    _by_content.cache_clear()
