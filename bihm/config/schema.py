"""The schema of the configuration: every key, its type and its default.

The fields' meaning is told where a user reads it, in `configs/train.yaml`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import IntegerNode, OmegaConf

from bihm.machine.layer_sizes import layer_sizes

MOST_LAYERS = 1000
GROUPS = ("model", "dataset", "experiment")  # folders of configs/, chosen by name
MACHINE_KEYS = ("devices", "checkpoint.every_seconds")  # make no other run, nor another setting
LONGEST_NAME = 80  # of the words in the name of a sweep's job


@dataclass
class ModelConfig:
    name: str = "bihm"
    q_update: str | None = None
    sleep_batch_size: int | None = None
    warm_up: int | None = None
    # Of target propagation:
    weights: str | None = None
    N: int | None = None
    delta: float | None = None
    alpha: float | None = None
    langevin: float | None = None
    noise_x: float | None = None
    noise_h: float | None = None
    spikes: int | None = None
    sample_N: int | None = None
    sample_delta: float | None = None
    sample_alpha: float | None = None
    rounds: int | None = None
    top_variance: float | None = None


@dataclass
class DatasetConfig:
    name: str = "digits"
    n_features: int | None = None
    image_shape: list[int] | None = None
    path: str | None = None


@dataclass
class SideConfig:
    """One of p and q."""

    layer: Any = "sbn"
    hidden: Any = None
    activation: str = "tanh"
    order: str = "natural"


SIDE_OPTIONS = tuple(one.name for one in fields(SideConfig) if one.name != "layer")


def first_parameters() -> dict[str, Any]:
    """How the parameters start; a mapping because no field of a class can be called `from`."""
    return {"weights": "authors", "bias": -1.0, "visible_bias": "data", "from": None}


@dataclass
class PhaseConfig:
    """A part of a run; what is null is taken from the top level."""

    K: int | None = None
    lr: float | None = None
    lr_end: float | None = None
    epochs: int | None = None
    patience: int | None = None


@dataclass
class OptimConfig:
    name: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    lr_end: float = 1e-4
    clip: float | None = None
    l1: float = 0.0
    l2: float = 0.0
    soften: float = 0.0
    average: float | None = None
    phases: list[PhaseConfig] = field(default_factory=list)


@dataclass
class EvalConfig:
    every: int | None = None
    K: int = 10
    final_K: int = 1000
    z_outer: int = 200
    final_z_outer: int = 100_000
    z_inner: int = 10
    parzen_samples: int = 1000
    final_parzen_samples: int = 10_000


@dataclass
class StopConfig:
    patience: int | None = 100


@dataclass
class CheckpointConfig:
    every_seconds: float = 60.0


@dataclass
class DistributedConfig:
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass
class Config:
    """Everything that determines a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    depth: int = 12
    # An interpolation in the YAML would be looked up before the dataset is known.
    layers: list[int] | None = "${bihm.layers:${depth},${dataset.n_features}}"  # type: ignore[assignment]
    K: int = 10
    batch_size: int = 100
    epochs: int = 1000
    seed: int = 0
    precision: str = "f32"
    devices: Any = 1  # a number, or "all"
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    max_seconds: float | None = None
    p: SideConfig = field(default_factory=SideConfig)
    q: SideConfig = field(default_factory=SideConfig)
    init: dict[str, Any] = field(default_factory=first_parameters)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


_convert_whole = IntegerNode._validate_and_convert_impl


def _whole(node: IntegerNode, value: Any) -> int:
    """What a whole number is read from: 1e3 as well, which YAML and Hydra take for a float."""
    whole = type(value) is float and value.is_integer()
    return _convert_whole(node, int(value) if whole else value)


def register() -> None:
    """Make the schema known to Hydra; call it before composing."""
    ConfigStore.instance().store("schema", node=Config)


def _resolve_layers(depth: int, n_features: int | None) -> list[int] | None:
    # A file's width is not known before it is read; `read_dataset` fills the sizes in then. What makes no
    # sense is for the checks to refuse.
    if n_features is None or n_features < 1 or not 1 <= depth <= MOST_LAYERS:
        return None
    return layer_sizes(depth, n_features)


def _resolve_len(layers: Sequence[Any] | None, depth: int) -> int:
    return depth if layers is None else len(layers)


def job_name(number: int, words: str) -> str:
    """Name a job of a sweep after its number, which alone tells it from the others, and its words.

    model=rws,layers=[200,100],dataset.path=/a/b.csv becomes 3-model=rws,layers=200-100,dataset.path=b.csv:
    only letters, digits and what no file system, shell or library takes for something else.
    """
    text = re.sub(r"\[[^\[\]]*\]", lambda found: found[0].strip("[]").replace(",", "-"), words)
    text = re.sub(r"=[^,=]*/", "=", text)  # of a path, the end tells most
    text = re.sub(r"[^A-Za-z0-9=,.+_-]+", "_", text)
    return f"{number}-{text[:LONGEST_NAME]}".rstrip("-,._=")


def to_yaml(config: Config) -> str:
    """Write a configuration as the YAML that `load` reads."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as the plain nested dictionaries that `from_dict` reads, fit for JSON."""
    return asdict(config)


def columns(config: Config) -> dict[str, Any]:
    """The leaves of a configuration for a table of runs: each key has one type in all of them, or none."""
    mixed = ("p.hidden", "q.hidden", "devices")  # a number, or a list or a word
    values = flatten(config)
    return {key: str(v) if key in mixed and v is not None else v for key, v in values.items()}


def flatten(config: Config) -> dict[str, Any]:
    """Return the leaves of a configuration under dotted names."""
    return leaves(to_dict(config))


def leaves(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested dictionaries under dotted names."""

    def walk(node: Any, prefix: str) -> Iterable[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, node

    return dict(walk(tree, ""))


# Here and not in `register`: the process of a launcher composes a job again, and only imports this.
IntegerNode._validate_and_convert_impl = _whole  # type: ignore[assignment,method-assign]
OmegaConf.register_new_resolver("bihm.layers", _resolve_layers, replace=True)
OmegaConf.register_new_resolver("bihm.len", _resolve_len, replace=True)
OmegaConf.register_new_resolver("bihm.job_name", job_name, replace=True)
