"""Makes `dataset=NAME` work for what `bihm-data import` brought into the user's cache."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from bihm import paths


class ImportedDatasets(SearchPathPlugin):
    """Adds the cache's config folder behind our own, so that no import can hide a built-in name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra's hook."""
        folder = paths.cache() / "configs"
        if folder.is_dir():
            search_path.append("bihm-imports", f"file://{folder.absolute()}")


def register() -> None:
    """Make the plugin known to Hydra."""
    Plugins.instance().register(ImportedDatasets)
