"""Samples of p, and of BiHM's p*: resampling and a Markov chain, free or with some pixels given.

p*(x) is the x-marginal of a target without an intractable term, with two replicas h and h':

    pi(x, h, h') ∝ sqrt(p(x, h) q(h | x)) sqrt(p(x, h') q(h' | x))

Every move of the chain leaves pi invariant. How long it takes to get there from its start is another
matter: the acceptance rate and the ESS in `SweepInfo` are symptoms, not proofs.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Integer

from bihm.errors import ConfigError
from bihm.kernels.bernoulli import bernoulli_sample
from bihm.kernels.numerics import ess, log_mean_exp
from bihm.machine.machine import HelmholtzMachine, Latents
from bihm.types import Array, Bits, Float, PRNGKey

POOL_BLOCK = 500  # candidates of a pool that are weighed at once: what bounds the memory


@runtime_checkable
class Factorised(Protocol):
    """A conditional whose units are independent given its input."""

    def logits(self, y: Bits[Array, "*lead inputs"]) -> Float[Array, "*lead units"]:
        """a such that p(h_i = 1 | y) = sigmoid(a_i)."""


class Resampled(NamedTuple):
    """Draws from a pool of weighted candidates."""

    x: Bits[Array, "samples visible"]
    ess: Float[Array, ""]  # of the pool's weights, as a fraction of the pool


class Chain(NamedTuple):
    """The state of many independent chains on pi."""

    x: Bits[Array, "batch visible"]
    h: Latents  # h_1 .. h_L, each (2, batch, units): the replicas h and h'


class SweepInfo(NamedTuple):
    """Means over the chains; a run stacks them along a leading axis of sweeps."""

    acceptance: Float[Array, "*sweeps"]  # of proposals for x
    ess: Float[Array, "*sweeps"]  # of the K weights sqrt(p/q), over both replicas, in [1/K, 1]


def ancestral(
    key: PRNGKey, machine: HelmholtzMachine, samples: int
) -> tuple[Bits[Array, "samples visible"], Latents]:
    """Draw (x, h) ~ p(x, h), exactly and independently."""
    return machine.sample_p(key, samples)


def resample(
    key: PRNGKey, machine: HelmholtzMachine, samples: int, proposals: int, inner: int
) -> Resampled:
    """Draw x ~ p* from a pool of `proposals` ancestral samples of p, with replacement.

    With h'^m ~ q(h|x), the weight of (x, h) ~ p is

        w = sqrt(q(h|x) / p(x,h)) (1/M) sum_m sqrt(p(x,h'^m) / q(h'^m|x)),

    whose mean given x is p~*(x) / p(x) for any number M = `inner`.

    The pool is finite, so this is an approximation: its bias falls as 1 / (proposals * ess), and no more
    than about proposals * ess of the draws are different. Where that is small, p and p* are too far apart.
    """
    blocks = -(-proposals // POOL_BLOCK)
    height = -(-proposals // blocks)  # equal blocks: the pool may be larger by less than `blocks`
    pool_key, pick_key = jax.random.split(key)

    def weigh(block_key: PRNGKey) -> tuple[Array, Array]:
        outer_key, inner_key = jax.random.split(block_key)
        x, h = machine.sample_p(outer_key, height)
        fresh, log_q = machine.sample_q(inner_key, x, inner)
        log_ratio = machine.log_q(x, h) - machine.log_p(x, h)
        log_mean = log_mean_exp((machine.log_p(x, fresh) - log_q) / 2)
        return x.astype(jnp.uint8), log_ratio / 2 + log_mean

    x, log_w = jax.lax.map(weigh, jax.random.split(pool_key, blocks))
    log_w = log_w.reshape(-1)
    picked = jax.random.choice(pick_key, log_w.size, (samples,), p=jax.nn.softmax(log_w))
    x = x.reshape(-1, machine.n_visible)[picked]
    return Resampled(x.astype(jnp.float32), ess(log_w))


def factorised_bottom(machine: HelmholtzMachine) -> Factorised:
    """Return p(x | h_1), whose logits are the chain's proposal for x.

    Raises:
        ConfigError: its units depend on each other (`darn`, `nade`).
    """
    layer = machine.p[0]
    if not isinstance(layer, Factorised):
        raise ConfigError(
            "the chain needs a factorised p(x | h_1): the first p.layer is "
            f"{type(layer).__name__.lower()}, not sbn or dsbn; use method=ancestral or method=resample"
        )
    return layer


def start_chain(key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "batch visible"]) -> Chain:
    """Start one chain at each row of `x`, with h, h' ~ q(h | x)."""
    return Chain(x, machine.sample_q(key, x, 2)[0])


def run_chain(
    key: PRNGKey,
    machine: HelmholtzMachine,
    chain: Chain,
    observed: Bool[Array, "batch visible"],
    first: Integer[Array, ""],
    *,
    sweeps: int,
    K: int,
) -> tuple[Chain, SweepInfo]:
    """Do `sweeps` sweeps, the next one being number `first`; what is `observed` of x stays as it is.

    Then the target is pi(x, h, h' | observed x), and that of x is p*(missing x | observed x). Randomness is
    folded from the number of the sweep, so a run in parts equals a run in one. With K = 1 the latents stay.
    """

    def body(chain: Chain, number: Array) -> tuple[Chain, SweepInfo]:
        h_key, x_key = jax.random.split(jax.random.fold_in(key, number))
        h, h_ess = _move_h(h_key, machine, chain, K)
        chain, accepted = _move_x(x_key, machine, chain._replace(h=h), observed)
        return chain, SweepInfo(jnp.mean(accepted), jnp.mean(h_ess))

    return jax.lax.scan(body, chain, first + jnp.arange(sweeps))


def _move_h(
    key: PRNGKey, machine: HelmholtzMachine, chain: Chain, K: int
) -> tuple[Latents, Float[Array, "replicas batch"]]:
    """Iterated sampling importance resampling (Andrieu, Lee & Vihola 2018, "i-SIR") of h and of h'.

    Choose between K - 1 fresh h ~ q(h | x) and the present one by sqrt(p(x,h) q(h|x)) / q(h|x) = sqrt(p/q).
    """
    draw_key, choice_key = jax.random.split(key)

    def per_replica(a: Array) -> Array:
        return a.reshape(K - 1, 2, *a.shape[1:])

    drawn, log_q = machine.sample_q(draw_key, chain.x, (K - 1) * 2)
    fresh = [per_replica(a) for a in drawn]
    log_w_fresh = machine.log_p(chain.x, fresh) - per_replica(log_q)
    log_w_now = machine.log_p(chain.x, chain.h) - machine.log_q(chain.x, chain.h)
    log_w = jnp.concatenate([log_w_now[None], log_w_fresh]) / 2
    chosen = jax.random.categorical(choice_key, log_w, axis=0)[None, ..., None]

    def choose(now: Array, others: Array) -> Array:
        both = jnp.concatenate([now[None], others])
        return jnp.take_along_axis(both, chosen, axis=0)[0]

    return [choose(*pair) for pair in zip(chain.h, fresh, strict=True)], ess(log_w)


def _move_x(
    key: PRNGKey,
    machine: HelmholtzMachine,
    chain: Chain,
    observed: Bool[Array, "batch visible"],
) -> tuple[Chain, Bool[Array, " batch"]]:
    """Metropolis-Hastings for x, proposed from Bernoullis with logits (a(h_1) + a(h'_1)) / 2.

    As a function of x, pi is sqrt(p(x|h_1) p(x|h'_1)) sqrt(q(h_1|x) q(h'_1|x)), and the first factor is the
    proposal but for a constant: so the ratio of the second one decides.
    """
    noise_key, accept_key = jax.random.split(key)
    x, h_1 = chain.x, chain.h[0]
    logits = jnp.mean(factorised_bottom(machine).logits(h_1), axis=0)
    noise = jax.random.uniform(noise_key, x.shape, jnp.float32)
    proposal = jnp.where(observed, x, bernoulli_sample(noise, logits))

    def log_factor(x: Array) -> Array:
        return jnp.sum(machine.q[0].log_prob(h_1, x), axis=0) / 2

    u = jax.random.uniform(accept_key, x.shape[:1], jnp.float32)
    accepted = jnp.log(u) < log_factor(proposal) - log_factor(x)
    return chain._replace(x=jnp.where(accepted[:, None], proposal, x)), accepted
