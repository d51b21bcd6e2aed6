"""The same step in eager PyTorch, for `benchmark.py --torch`: sbn layers, rules bihm and rws.

Written the way a careful PyTorch user would: no gradient through samples, q's first layer once per example,
one random draw for all layers, the library's own Adam.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, softplus


class EagerMachine:
    """Parameters by name (p.0.w, p.0.b, ...) and the two rules' losses."""

    def __init__(self, parameters: dict[str, np.ndarray], visible: int, sizes: Sequence[int]):
        self.visible, self.sizes = visible, list(sizes)
        self.parameters = {
            name: torch.tensor(np.asarray(value), requires_grad=True)
            for name, value in parameters.items()
        }

    def logits(self, side: str, layer: int, y: Tensor | None) -> Tensor:
        """b + W y, or b for the prior."""
        b = self.parameters[f"{side}.{layer}.b"]
        return b if y is None else linear(y, self.parameters[f"{side}.{layer}.w"].T, b)

    def log_prob(self, side: str, layer: int, h: Tensor, y: Tensor | None) -> Tensor:
        """log p(h | y)."""
        return log_bernoulli(h, self.logits(side, layer, y))

    def sample_q(self, x: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """h ~ q(h | x) and log q(h | x)."""
        h, log_q, y = [], torch.zeros(noise.shape[:-1]), x
        for layer, part in enumerate(noise.split(self.sizes, dim=-1)):
            logits = self.logits("q", layer, y)
            y = (part < torch.sigmoid(logits.detach())).float()
            log_q = log_q + log_bernoulli(y, logits)
            h.append(y)
        return h, log_q

    @torch.no_grad()
    def sample_p(self, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(x, h) ~ p(x, h)."""
        y, h = None, []
        sizes = [*reversed(self.sizes), self.visible]
        for layer, part in zip(range(len(self.sizes), -1, -1), noise.split(sizes, -1), strict=True):
            y = (part < torch.sigmoid(self.logits("p", layer, y))).float()
            h.append(y)
        x, *latents = reversed(h)
        return x, latents

    def loss(self, rule: str, x: Tensor, noise: Tensor, sleep_noise: Tensor | None) -> Tensor:
        """The surrogate whose gradient is the rule; RWS with both updates of q."""
        h, log_q = self.sample_q(x, noise)
        below, above = [x, *h], [*h, None]
        pairs = enumerate(zip(below, above, strict=True))
        log_p = sum(self.log_prob("p", i, b, a) for i, (b, a) in pairs)
        log_w = (log_p - log_q).detach()
        if rule == "bihm":
            weights = torch.softmax(log_w / 2, dim=0)
            surrogate = weights * log_p + (weights - 1 / len(noise)) * log_q
            return -surrogate.sum(dim=0).mean()
        weights = torch.softmax(log_w, dim=0)
        wake = (weights * log_p + 0.5 * weights * log_q).sum(dim=0).mean()
        dream, latents = self.sample_p(sleep_noise)
        pairs = enumerate(zip(latents, [dream, *latents[:-1]], strict=True))
        return -wake - 0.5 * sum(self.log_prob("q", i, a, b) for i, (a, b) in pairs).mean()

    def gradients(self, *arguments) -> dict[str, np.ndarray]:
        """The gradient of `loss`, by name."""
        grads = torch.autograd.grad(self.loss(*arguments), list(self.parameters.values()))
        return {name: g.numpy() for name, g in zip(self.parameters, grads, strict=True)}

    def trainer(self, rule: str, rows: np.ndarray, batch: int, K: int, dreams: int):
        """A function that does one training step, minibatch and Adam included."""
        adam = torch.optim.Adam(list(self.parameters.values()), lr=1e-4)
        data = torch.tensor(rows)
        hidden = sum(self.sizes)

        def step() -> None:
            x = data[torch.randint(len(data), (batch,))].float()
            sleep = torch.rand(dreams, hidden + self.visible) if rule == "rws" else None
            loss = self.loss(rule, x, torch.rand(K, batch, hidden), sleep)
            adam.zero_grad()
            loss.backward()
            adam.step()

        return step


def log_bernoulli(h: Tensor, logits: Tensor) -> Tensor:
    """Sum over units of h a - softplus(a)."""
    return (h * logits - softplus(logits)).sum(dim=-1)
