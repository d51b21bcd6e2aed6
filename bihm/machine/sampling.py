"""Samples of p, and of BiHM's p*: resampling and a Markov chain, free or with some pixels given.

p*(x) is the x-marginal of a target without an intractable term, with R = 2 replicas of the latents; for
R = 1 the target is p itself, whose x-marginal is p(x):

    pi(x, h^1 .. h^R) ∝ prod_r p(x, h^r)^(1/R) q(h^r | x)^(1 - 1/R)

Every move of the chain leaves pi invariant. How long it takes to get there from its start is another
matter: the acceptance rate and the ESS in `SweepInfo` are symptoms, not proofs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Integer

from bihm.errors import ConfigError
from bihm.kernels.bernoulli import bernoulli_sample
from bihm.kernels.noise import uniform
from bihm.kernels.numerics import ess, log_mean_exp
from bihm.machine.layers.conditional import Sequential
from bihm.machine.layers.factorised import Factorised
from bihm.machine.machine import HelmholtzMachine, Latents
from bihm.types import Array, Bits, Float, PRNGKey

POOL_BLOCK = 500  # candidates of a pool that are weighed at once: what bounds the memory


class Resampled(NamedTuple):
    """Draws from a pool of weighted candidates."""

    x: Bits[Array, "samples visible"]
    ess: Float[Array, ""]  # of the pool's weights, as a fraction of the pool


class Chain(NamedTuple):
    """The state of many independent chains on pi."""

    x: Bits[Array, "batch visible"]
    h: Latents  # h_1 .. h_L, each (replicas, batch, units)


class SweepInfo(NamedTuple):
    """Means over the chains; a run stacks them along a leading axis of sweeps."""

    acceptance: Float[Array, "*sweeps"]  # how many chains took a proposal for x
    ess: Float[Array, "*sweeps"]  # of the K weights (p/q)^(1/R), over the replicas, in [1/K, 1]


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


def check_bottom(machine: HelmholtzMachine) -> None:
    """See that the chain can propose x.

    Raises:
        ConfigError: p(x | h_1) is neither factorised nor drawn unit by unit with known logits.
    """
    layer = machine.p[0]
    if not isinstance(layer, Factorised | Sequential):
        raise ConfigError(
            f"the chain cannot propose x: the first p.layer, {type(layer).__name__.lower()}, has neither "
            "logits nor unit_logits; use method=ancestral or method=resample"
        )


def start_chain(
    key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "batch visible"], replicas: int
) -> Chain:
    """Start one chain at each row of `x`, with latents ~ q(h | x): two replicas for p*, one for p."""
    return Chain(x, machine.sample_q(key, x, replicas)[0])


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

    Then the target is pi given what is observed, and that of x is p*(missing x | observed x), or that of p.
    Randomness is folded from the number of the sweep, so a run in parts equals a run in one. With K = 1 the
    latents stay, and so does an x whose units depend on each other.
    """

    def body(chain: Chain, number: Array) -> tuple[Chain, SweepInfo]:
        h_key, x_key = jax.random.split(jax.random.fold_in(key, number))
        h, h_ess = _move_h(h_key, machine, chain, K)
        chain = chain._replace(h=h)
        if isinstance(machine.p[0], Factorised):
            chain, accepted = _move_x(x_key, machine, chain, observed)
        else:
            chain, accepted = _resample_x(x_key, machine, chain, observed, K)
        return chain, SweepInfo(jnp.mean(accepted), jnp.mean(h_ess))

    return jax.lax.scan(body, chain, first + jnp.arange(sweeps))


def _move_h(
    key: PRNGKey, machine: HelmholtzMachine, chain: Chain, K: int
) -> tuple[Latents, Float[Array, "replicas batch"]]:
    """Iterated sampling importance resampling (Andrieu, Lee & Vihola 2018, "i-SIR") of every replica.

    Choose between K - 1 fresh h ~ q(h | x) and the present one by p^(1/R) q^(1 - 1/R) / q = (p / q)^(1/R).
    """
    replicas = len(chain.h[0])
    draw_key, choice_key = jax.random.split(key)

    def per_replica(a: Array) -> Array:
        return a.reshape(K - 1, replicas, *a.shape[1:])

    drawn, log_q = machine.sample_q(draw_key, chain.x, (K - 1) * replicas)
    fresh = [per_replica(a) for a in drawn]
    log_w_fresh = machine.log_p(chain.x, fresh) - per_replica(log_q)
    log_w_now = machine.log_p(chain.x, chain.h) - machine.log_q(chain.x, chain.h)
    log_w = jnp.concatenate([log_w_now[None], log_w_fresh]) / replicas
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
    """Metropolis-Hastings for x, proposed from Bernoullis with the mean of the logits a(h_1^r).

    As a function of x, pi is prod_r p(x | h_1^r)^(1/R) times prod_r q(h_1^r | x)^(1 - 1/R), and the first
    factor is the proposal but for a constant: so the ratio of the second one decides. For R = 1 it is one,
    and the move an exact draw of what is missing.
    """
    layer = machine.p[0]
    assert isinstance(layer, Factorised)
    noise_key, accept_key = jax.random.split(key)
    x, h_1 = chain.x, chain.h[0]
    logits = jnp.mean(layer.logits(h_1), axis=0)
    noise = uniform(noise_key, x.shape)
    proposal = jnp.where(observed, x, bernoulli_sample(noise, logits))

    def log_factor(x: Array) -> Array:
        return jnp.sum(machine.q[0].log_prob(h_1, x), axis=0) * (1 - 1 / len(h_1))

    u = uniform(accept_key, x.shape[:1])
    accepted = jnp.log(u) < log_factor(proposal) - log_factor(x)
    return chain._replace(x=jnp.where(accepted[:, None], proposal, x)), accepted


def held(
    noise: Float[Array, "*lead visible"],
    x: Bits[Array, "batch visible"],
    observed: Bool[Array, "..."],
) -> Float[Array, "*lead visible"]:
    """Numbers with which a layer draws x again where it is observed: -1 makes a unit 1, 2 makes it 0."""
    return jnp.where(observed, jnp.where(x > 0, -1.0, 2.0), noise)


def log_prob_where(
    where: Bool[Array, "..."],
    x: Bits[Array, "*#lead visible"],
    logits: Float[Array, "*#lead visible"],
) -> Float[Array, "..."]:
    """sum_i log sigma((2 x_i - 1) a_i) over some of the units alone, in nats; axes before are broadcast."""
    return jnp.sum(jnp.where(where, x * logits - jax.nn.softplus(logits), 0), axis=-1)


def _resample_x(
    key: PRNGKey,
    machine: HelmholtzMachine,
    chain: Chain,
    observed: Bool[Array, "batch visible"],
    K: int,
) -> tuple[Chain, Bool[Array, " batch"]]:
    """i-SIR of an x whose units depend on each other, by likelihood weighting.

    A proposal is drawn unit by unit from p(x | y) with what is observed held fixed, where y is the mean of
    h_1 over the replicas. Its density g is the product of p(x_i | x_<i, y) over the missing units alone, so
    that the weight among K - 1 proposals and the present x,

        prod_r p(x | h_1^r)^(1/R) q(h_1^r | x)^(1 - 1/R) / g(x),

    is for R = 1 the product of p(x_i | x_<i, h_1) over the observed units. (For darn the logits at the mean
    of h_1 are the mean of the logits, as in the move above; any other g would do as well.)
    """
    layer, h_1 = machine.p[0], chain.h[0]
    assert isinstance(layer, Sequential)
    draw_key, choice_key = jax.random.split(key)
    y = jnp.mean(h_1, axis=0)
    noise = uniform(draw_key, (K - 1, *chain.x.shape))
    x = jnp.concatenate([chain.x[None], layer.sample(held(noise, chain.x, observed), y)])
    log_g = log_prob_where(~observed, x, layer.unit_logits(x, y))
    log_w, share = -log_g, 1 / len(h_1)
    for one in h_1:  # each with all candidates for x
        log_w += share * layer.log_prob(x, one) + (1 - share) * machine.q[0].log_prob(one, x)
    chosen = jax.random.categorical(choice_key, log_w, axis=0)
    taken = jnp.take_along_axis(x, chosen[None, :, None], axis=0)[0]
    return chain._replace(x=taken), chosen > 0
