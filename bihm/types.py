"""The axis vocabulary and the array aliases that the whole package speaks.

    batch     examples of one minibatch (or rows of one evaluation tile)
    samples   importance samples per example, K of them
    visible   units of the data layer x = h_0
    units     units of the layer being modelled
    inputs    units of the layer conditioned on (0 of them for the top prior)

A leading `*lead` stands for any of `batch` or `samples batch`. Bits are float32 zeros and ones, since all
they ever do is enter matrix products. All log-probabilities are in nats.
"""

from typing import TYPE_CHECKING

import numpy as np
from jax import Array
from jaxtyping import Float, Key, UInt8

if TYPE_CHECKING:
    from typing import Annotated as Bits
else:
    Bits = Float  # Bits[Array, "*lead units"]: float32 zeros and ones

AnyArray = Array | np.ndarray  # on the device, or on the host
PRNGKey = Key[Array, ""]
Rows = UInt8[Array, "rows visible"]

__all__ = ["AnyArray", "Array", "Bits", "Float", "PRNGKey", "Rows"]
