"""Which family of models a configuration asks for."""

from bihm.config import Config
from bihm.config.families import TARGETPROP
from bihm.machine.family import Family
from bihm.run.families.helmholtz import Helmholtz
from bihm.run.families.targetprop import TargetProp


def family_of(config: Config) -> Family:
    """The family of `model=`, with the options of this configuration."""
    return TargetProp(config) if config.model.name == TARGETPROP else Helmholtz(config)
