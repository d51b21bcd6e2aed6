"""Which keys belong to which family of models; the others die with one line, and are no columns."""

from collections.abc import Iterable
from typing import Any

from bihm.config.schema import SIDE_OPTIONS, Config, ModelConfig, flatten
from bihm.errors import ConfigError

TARGETPROP = "targetprop"
# The keys `model.*` of target propagation, with what each of them is when a configuration leaves it out.
TARGETPROP_OPTIONS: dict[str, Any] = {
    "weights": "orthogonal",
    "N": 15,
    "delta": 0.1,
    "alpha": 0.001,
    "langevin": 0.0,
    "noise_x": 0.4,
    "noise_h": 0.5,
    "spikes": 3,
    "sample_N": 15,
    "sample_delta": 0.1,
    "sample_alpha": 0.3,
    "rounds": 3,
    "top_variance": 4.0,
}
INITIAL_WEIGHTS = ("orthogonal", "glorot", "authors")
DEPTHS = {TARGETPROP: 2}  # where a command names none
PARZEN = ("eval.parzen_samples", "eval.final_parzen_samples")
OF_BITS = (
    *("K", "p.layer", "q.layer"),
    *(f"{side}.{option}" for side in "pq" for option in SIDE_OPTIONS),
    *("init.weights", "init.bias", "init.visible_bias", "optim.soften"),
    *("eval.K", "eval.final_K", "eval.z_outer", "eval.final_z_outer", "eval.z_inner"),
)


def options_of(model: ModelConfig) -> dict[str, Any]:
    """What target propagation runs with: its keys, at their defaults where a configuration has none."""
    own = {key: getattr(model, key) for key in TARGETPROP_OPTIONS}
    return TARGETPROP_OPTIONS | {key: value for key, value in own.items() if value is not None}


def settled(config: Config) -> dict[str, Any]:
    """The keys `model.*` of target propagation, no default left out; of another model nothing.

    What an earlier version saved lacks the keys that came later, and is still the configuration of its run.
    """
    own = options_of(config.model) if config.model.name == TARGETPROP else {}
    return {f"model.{key}": value for key, value in own.items()}


def strangers(config: Config) -> tuple[str, ...]:
    """The keys that the configuration's model does not read, besides those of `model`."""
    return OF_BITS if config.model.name == TARGETPROP else PARZEN


def check_strangers(config: Config, given: Iterable[str]) -> None:
    """Refuse keys of another family that a command gives, or a file sets to anything but the default."""
    values, defaults, named = flatten(config), flatten(Config()), set(given)
    if config.model.name == TARGETPROP and any(
        phase.K is not None for phase in config.optim.phases
    ):
        raise ConfigError(f"optim.phases: K has no meaning with model=targetprop; {_known()}")
    for key in strangers(config):
        if (
            values[key] != defaults[key]
            or key in named
            or key.partition(".")[0] in named - {"eval", "init", "optim"}
        ):
            if config.model.name == TARGETPROP:
                raise ConfigError(f"{key} has no meaning with model=targetprop; {_known()}")
            raise ConfigError(f"{key} belongs to model=targetprop, not {config.model.name}")


def _known() -> str:
    keys = ", ".join(f"model.{key}" for key in TARGETPROP_OPTIONS)
    return f"its own keys are {keys}, {' and '.join(PARZEN)}"


def own_columns(config: Config, leaves: dict[str, Any]) -> dict[str, Any]:
    """The leaves of a configuration that its model reads."""
    return {key: value for key, value in leaves.items() if key not in strangers(config)}
