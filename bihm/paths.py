"""Where things live: the configs of the package, the user's cache, and folders with odd names."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from bihm.errors import ConfigError


def configs() -> Path:
    """The folder of the Hydra configs: inside an installed wheel, or beside `bihm/` in a checkout."""
    here = Path(__file__).resolve().parent
    # A checkout comes first: an editable install may leave a stale copy in site-packages.
    for folder in (here.parent / "configs", here / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise RuntimeError(f"bihm: no configs folder beside {here}; reinstall the package")


def cache() -> Path:
    """The user's cache folder: `$BIHM_CACHE`, or the platform's own place for such things."""
    given = os.environ.get("BIHM_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("bihm"))


def expand(text: str) -> str:
    """A path as somebody typed it: `~` is the home folder, which no shell says behind `run=`.

    A file that is called so comes first.

    Raises:
        ConfigError: the name is no text, so that no file could tell of it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r} is no valid UTF-8; rename it") from error
    return text if os.path.lexists(text) else os.path.expanduser(text)


@contextlib.contextmanager
def plain(folder: Path) -> Iterator[Path]:
    """The folder, or a link to it where a library would take a `[` or a backslash for a pattern."""
    if not {"[", "\\"} & set(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="bihm-") as place:
        link = Path(place) / folder.name
        link.symlink_to(folder, target_is_directory=True)
        yield link
