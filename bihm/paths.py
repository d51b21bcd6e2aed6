"""Where things live: the configs of the package, the user's cache, folders with odd names, whole files."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import platformdirs

from bihm.errors import ConfigError, writing


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


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose bytes become the file when the block ends well; a reader sees the old ones or the new.

    They are on the disk by then, whatever becomes of the power.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    maker = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name[:40]}.{maker}.tmp")
    try:
        with writing(path), temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, path)
    finally:  # a place that refused the file may refuse this, too: that has been said
        with contextlib.suppress(OSError):
            temporary.unlink()
