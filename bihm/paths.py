"""Where things live: the configs of the package and the user's cache."""

import os
from pathlib import Path

import platformdirs


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
