"""`like=RUN`: the configuration of a run once more, below the words that are given beside it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from bihm import config, paths
from bihm.config import Config
from bihm.config.families import OF_BITS, PARZEN, TARGETPROP
from bihm.errors import ConfigError
from bihm.machine.layer_sizes import layer_sizes
from bihm.records.run_files import require_run


def offer(run: str, given: Mapping[str, str]) -> str:
    """Make a run's configuration known to Hydra; returns the name that `like=` takes in place of the path.

    `given` are the words of the command line: what follows from a value that they replace is left out, such
    as the sizes of layers where `depth` is given, or the K of a rule where another rule is.

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
    if "model" in given:
        for key in _of_its_rule(saved, set(given["model"].split(","))):
            _remove(node, key)
    if {"depth", "layers"} & set(given):
        node = {key: value for key, value in node.items() if key not in ("depth", "layers")}
    for group in ("model", "dataset"):
        if group in given:
            del node[group]
    if "dataset.path" in given and "dataset" in node:  # another file, which knows its own sizes
        node["dataset"] |= {"n_features": None, "image_shape": None}
    return _store(re.sub(r"[^\w-]+", "-", Path(run).resolve().name, flags=re.ASCII), node)


def _of_its_rule(saved: Config, others: set[str]) -> list[str]:
    """The keys of a run that mean something for its own rule, and not for the others given beside it.

    A rule's file, configs/model/NAME.yaml, may say more than `model.*`: each has its own K, epochs and so
    on. What the run has from such a file, or left as it was where another's says something, stays behind.
    """
    files = (paths.configs() / "model").glob("*.yaml")
    said = {file.stem: _beyond_model(file) for file in files}
    values, rule = config.flatten(saved), saved.model.name
    usual = config.flatten(Config()) | said.get(rule, {})
    keys = {key for one in said.values() for key in one if values.get(key) == usual.get(key)}
    if rule == TARGETPROP and TARGETPROP not in others:
        keys.update(PARZEN)
    if rule != TARGETPROP and others == {TARGETPROP}:
        keys.update(OF_BITS)
    return sorted(keys)


def _beyond_model(file: Path) -> dict[str, Any]:
    """What the file of a rule says of keys that are not its own, by dotted names."""
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict)
    if "model" not in content:  # all of it is of the group `model`
        return {}
    return config.leaves({str(key): value for key, value in content.items() if key != "model"})


def _remove(node: dict[str, Any], key: str) -> None:
    group, _, name = key.rpartition(".")
    inner = node.get(group, {}) if group else node
    inner.pop(name, None)


def _store(name: str, node: dict[str, Any]) -> str:
    store = ConfigStore.instance()
    taken = store.repo.get("like", {})
    name, i = f"run-{name}", 2
    while f"{name}.yaml" in taken:
        name, i = f"{name}-{i}", i + 1
    store.store(group="like", name=name, node=node, package="_global_")
    return name
