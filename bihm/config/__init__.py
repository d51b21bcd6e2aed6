"""The configuration: schema, checks, and errors that a person can read."""

from bihm.config.explain import explain
from bihm.config.read import differences, from_dict, load, parse
from bihm.config.schema import (
    GROUPS,
    MACHINE_KEYS,
    SIDE_OPTIONS,
    Config,
    DistributedConfig,
    PhaseConfig,
    SideConfig,
    columns,
    flatten,
    leaves,
    register,
    to_dict,
    to_yaml,
)

__all__ = [
    "GROUPS",
    "MACHINE_KEYS",
    "SIDE_OPTIONS",
    "Config",
    "DistributedConfig",
    "PhaseConfig",
    "SideConfig",
    "columns",
    "differences",
    "explain",
    "flatten",
    "from_dict",
    "leaves",
    "load",
    "parse",
    "register",
    "to_dict",
    "to_yaml",
]
