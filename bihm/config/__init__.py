"""The configuration: schema, checks, and errors that a person can read."""

from bihm.config.checks import layer_types
from bihm.config.explain import explain
from bihm.config.read import differences, load, parse
from bihm.config.schema import Config, PhaseConfig, SideConfig, flatten, register, to_yaml

__all__ = [
    "Config",
    "PhaseConfig",
    "SideConfig",
    "differences",
    "explain",
    "flatten",
    "layer_types",
    "load",
    "parse",
    "register",
    "to_yaml",
]
