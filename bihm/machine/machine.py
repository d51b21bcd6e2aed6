"""The Helmholtz machine: a generative model p and an inference model q over the same layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bihm.kernels.noise import uniforms
from bihm.machine.layers import Conditional, Init, LayerSpec, free_numbers, make_layer
from bihm.types import AnyArray, Array, Bits, Float, PRNGKey

Latents = list[Bits[Array, "*lead _units"]]  # h_1 .. h_L, data side first
Params = Any  # a pytree of float32 arrays
Structure = Any  # the machine without its numbers: static and hashable

RAREST = 1e-3  # no pixel is taken to be on, or off, more rarely than this


class HelmholtzMachine(nnx.Module):
    """p(x, h) = p(h_L) prod_l p(h_l | h_{l+1}) and q(h | x) = prod_l q(h_{l+1} | h_l), with h_0 = x.

    `p` holds L + 1 conditionals, data side first, the last being the prior p(h_L); `q` holds L.
    """

    def __init__(self, p: Sequence[Conditional], q: Sequence[Conditional]):
        if len(p) != len(q) + 1:
            raise ValueError(f"p needs one layer more than q, got {len(p)} and {len(q)}")
        self.p = nnx.List(p)
        self.q = nnx.List(q)

    @property
    def n_visible(self) -> int:
        return self.p[0].n_units

    @property
    def sizes(self) -> list[int]:
        """The number of units of h_1 .. h_L."""
        return [layer.n_units for layer in self.q]

    def sample_q(
        self, key: PRNGKey, x: Bits[Array, "batch visible"], samples: int
    ) -> tuple[Latents, Float[Array, "samples batch"]]:
        """Draw h^k ~ q(h | x) and return it with log q(h^k | x), in nats."""
        lead = (samples, x.shape[0])
        h, log_q, y = [], jnp.zeros(lead), x
        for layer, noise in zip(self.q, uniforms(key, lead, self.sizes), strict=True):
            y, log_prob = layer.sample_and_log_prob(noise, y)
            h.append(y)
            log_q += log_prob
        return h, log_q

    def sample_p(
        self, key: PRNGKey, samples: int
    ) -> tuple[Bits[Array, "samples visible"], Latents]:
        """Draw (x, h) ~ p(x, h) from the top down."""
        layers = list(reversed(self.p))
        noises = uniforms(key, (samples,), [layer.n_units for layer in layers])
        h, y = [], jnp.zeros((samples, 0), jnp.float32)
        for layer, noise in zip(layers, noises, strict=True):
            y = layer.sample(noise, y)
            h.append(y)
        x, *latents = reversed(h)
        return x, latents

    def log_p(self, x: Bits[Array, "*lead_x visible"], h: Latents) -> Float[Array, "..."]:
        """log p(x, h) in nats; the leading axes of `x` and `h` broadcast."""
        below = [x, *h]
        above = [*h, jnp.zeros((*h[-1].shape[:-1], 0), jnp.float32)]
        terms = [f.log_prob(b, a) for f, b, a in zip(self.p, below, above, strict=True)]
        return sum(terms[1:], start=terms[0])

    def log_p_visible(self, x: Bits[Array, "*lead_x visible"], h: Latents) -> Float[Array, "..."]:
        """log p(x | h_1) in nats, the lowest term of log p(x, h)."""
        return self.p[0].log_prob(x, h[0])

    def log_q(self, x: Bits[Array, "*lead_x visible"], h: Latents) -> Float[Array, "..."]:
        """log q(h | x) in nats; the leading axes of `x` and `h` broadcast."""
        below = [x, *h[:-1]]
        terms = [f.log_prob(a, b) for f, a, b in zip(self.q, h, below, strict=True)]
        return sum(terms[1:], start=terms[0])


def make_machine(
    rng: np.random.Generator,
    n_visible: int,
    sizes: Sequence[int],
    p_layers: Sequence[LayerSpec | str],
    q_layers: Sequence[LayerSpec | str],
    init: Init,
    visible_mean: Float[Array, " visible"] | None = None,
) -> HelmholtzMachine:
    """Build a machine with latent layers of the given sizes, data side first.

    With `visible_mean` the bias of p(x | h_1) starts at the log-odds of that mean instead of `init.bias`.
    """
    widths = [n_visible, *sizes]
    inits = [init] * len(p_layers)
    if visible_mean is not None:
        inits[0] = init._replace(bias=_log_odds(visible_mean))
    p = [
        make_layer(spec, rng, above, below, start)
        for spec, below, above, start in zip(p_layers, widths, [*sizes, 0], inits, strict=True)
    ]
    q = [
        make_layer(spec, rng, below, above, init)
        for spec, below, above in zip(q_layers, widths[:-1], sizes, strict=True)
    ]
    return HelmholtzMachine(p, q)


@jax.jit
def _log_odds(mean: Float[Array, " units"]) -> Float[Array, " units"]:
    # A pixel that is never on must not start at minus infinity.
    mean = jnp.clip(mean, RAREST, 1 - RAREST)
    return jnp.log(mean) - jnp.log1p(-mean)


def independent_log_p(
    mean: Float[AnyArray, " visible"], rows_mean: Float[AnyArray, " visible"]
) -> float:
    """log p of rows, in nats a row, if their bits were independent and on with the probabilities `mean`.

    sum_i r_i log m_i + (1 - r_i) log(1 - m_i), where r is the mean of the rows and m is kept off 0 and 1
    as for the first bias of p(x | h_1): what a machine says before its units tell each other anything.
    """
    mean = np.clip(np.asarray(mean, np.float64), RAREST, 1 - RAREST)
    return float(np.sum(rows_mean * np.log(mean) + (1 - rows_mean) * np.log1p(-mean)))


def split(machine: nnx.Module) -> tuple[Structure, Params]:
    """Take a machine apart into its static structure and its parameters; `bind` is the inverse."""
    return nnx.split(machine, nnx.Param)


def bind(structure: Structure, params: Params) -> HelmholtzMachine:
    """Put a machine together; the first line of every function that is compiled or differentiated."""
    machine = merge(structure, params)
    assert isinstance(machine, HelmholtzMachine)
    return machine


def merge(structure: Structure, params: Params) -> nnx.Module:
    """The same for the machine of any family."""
    machine: nnx.Module = nnx.merge(structure, params)
    return machine


def count_parameters(params: Params) -> int:
    """Return how many scalars of p and q together training can move."""
    variables = jax.tree.leaves(params, is_leaf=lambda node: isinstance(node, nnx.Variable))
    return sum(map(free_numbers, variables))


def parameter_names(params: Params) -> list[str]:
    """Names such as `p.0.w`, in the order of `jax.tree.leaves(params)`."""
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    return [".".join(_plain(part) for part in path if _plain(part)) for path, _ in paths]


def _plain(part: Any) -> str:
    return str(getattr(part, "key", getattr(part, "idx", "")))
