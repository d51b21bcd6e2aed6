"""Which family of models a configuration asks for."""

from bihm.config import Config
from bihm.machine.family import Family
from bihm.run.helmholtz import Helmholtz


def family_of(config: Config) -> Family:
    """The family of `model=`, with the options of this configuration."""
    return Helmholtz(config)
