"""What all conditionals share whose units are independent given their input."""

import abc

from flax import nnx

from bihm.kernels.bernoulli import bernoulli_log_prob, bernoulli_sample
from bihm.types import Array, Bits, Float


class Factorised(nnx.Module):
    """log p(h | y) = sum_i h_i a_i - softplus(a_i); a layer of this kind says what its logits a(y) are."""

    @abc.abstractmethod
    def logits(self, y: Bits[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        """a such that p(h_i = 1 | y) = s(a_i)."""

    def sample(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Bits[Array, "*lead units"]:
        return bernoulli_sample(noise, self.logits(y))

    def log_prob(
        self, h: Bits[Array, "*lead_h units"], y: Bits[Array, "*lead_y inputs"]
    ) -> Float[Array, "*lead"]:
        return bernoulli_log_prob(h, self.logits(y))

    def sample_and_log_prob(
        self, noise: Float[Array, "*lead units"], y: Bits[Array, "*lead_y inputs"]
    ) -> tuple[Bits[Array, "*lead units"], Float[Array, "*lead"]]:
        logits = self.logits(y)
        h = bernoulli_sample(noise, logits)
        return h, bernoulli_log_prob(h, logits)
