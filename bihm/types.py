"""The axis vocabulary and the array aliases that the whole package speaks.

    batch     examples of one minibatch (or rows of one evaluation tile)
    samples   importance samples per example, K of them
    visible   units of the data layer x = h_0
    units     units of the layer being modelled
    inputs    units of the layer conditioned on (0 of them for the top prior)

A leading `*lead` stands for any of `batch` or `samples batch`. Bits are float32 zeros and ones, since all
they ever do is enter matrix products. All log-probabilities are in nats.
"""

from jax import Array
from jaxtyping import Float, Key, UInt8

PRNGKey = Key[Array, ""]

Bits = Float  # Bits[Array, "*lead units"]: float32 zeros and ones
Rows = UInt8[Array, "rows visible"]

__all__ = ["Array", "Bits", "Float", "PRNGKey", "Rows"]
