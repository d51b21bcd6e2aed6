"""`like=RUN`: the configuration of a run once more, below the words that are given beside it."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from bihm import config
from bihm.errors import ConfigError
from bihm.machine.layer_sizes import layer_sizes
from bihm.records.run_files import require_run


def offer(run: str, given: Collection[str]) -> str:
    """Make a run's configuration known to Hydra; returns the name that `like=` takes in place of the path.

    `given` are the keys of the command line: what follows from a value that they replace is left out, such
    as the sizes of layers where `depth` is given.

    Raises:
        ConfigError: there is no run, or its `config.yaml` is damaged.
    """
    if "experiment" in given:
        raise ConfigError("give one of like=RUN and experiment=NAME")
    saved = config.load(require_run(Path(run), key="like") / "config.yaml")
    node: dict[str, Any] = config.to_dict(saved)
    width = saved.dataset.n_features
    assert width is not None  # `load` has looked
    if saved.layers == layer_sizes(saved.depth, width):
        del node["layers"]  # they follow from depth and the data, perhaps other data now
    else:
        del node["depth"]
    if {"depth", "layers"} & set(given):
        node = {key: value for key, value in node.items() if key not in ("depth", "layers")}
    for group in ("model", "dataset"):
        if group in given:
            del node[group]
    if "dataset.path" in given and "dataset" in node:  # another file, which knows its own sizes
        node["dataset"] |= {"n_features": None, "image_shape": None}
    return _store(re.sub(r"[^\w-]+", "-", Path(run).resolve().name, flags=re.ASCII), node)


def _store(name: str, node: dict[str, Any]) -> str:
    store = ConfigStore.instance()
    taken = store.repo.get("like", {})
    name, i = f"run-{name}", 2
    while f"{name}.yaml" in taken:
        name, i = f"{name}-{i}", i + 1
    store.store(group="like", name=name, node=node, package="_global_")
    return name
