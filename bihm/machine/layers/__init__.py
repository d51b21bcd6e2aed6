"""The conditionals p(h | y): what a machine is made of."""

import numpy as np

from bihm.machine.layers.conditional import Conditional, Init, LayerSpec
from bihm.machine.layers.darn import Darn
from bihm.machine.layers.dsbn import Dsbn
from bihm.machine.layers.nade import Nade
from bihm.machine.layers.order import free_numbers
from bihm.machine.layers.sbn import Sbn

# Every type there is. Whoever wants another one writes a file like sbn.py and its name here.
LAYERS: dict[str, type[Conditional]] = {
    "sbn": Sbn,
    "dsbn": Dsbn,
    "darn": Darn,
    "nade": Nade,
}


def make_layer(
    spec: LayerSpec | str, rng: np.random.Generator, n_inputs: int, n_units: int, init: Init
) -> Conditional:
    """Build the conditional that a configuration asks for; a bare name leaves its options alone."""
    spec = LayerSpec(spec) if isinstance(spec, str) else spec
    return LAYERS[spec.name](rng, n_inputs, n_units, init, spec)


__all__ = ["LAYERS", "Conditional", "Init", "LayerSpec", "free_numbers", "make_layer"]
