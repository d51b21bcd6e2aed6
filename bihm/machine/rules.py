"""The three training rules. This is the file to read, and the one to change.

Each rule is a function `(key, machine, x, ...) -> (loss, Info)` whose gradient is the rule's update
direction with its sign turned. Samples and normalised weights are constants to the gradient, so
each layer's gradient is that of a logistic regression on weighted examples and nothing flows
between stochastic layers.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bihm.kernels.numerics import ess, log_mean_exp, normalised_weights
from bihm.machine.machine import HelmholtzMachine
from bihm.types import Array, Bits, Float, PRNGKey


class Info(NamedTuple):
    """What an observer of a step may want: K-sample estimates for each example, in nats."""

    log_p: Float[Array, " batch"]  # log (1/K) sum_k w_k
    log_p_tilde_star: Float[Array, " batch"]  # 2 log (1/K) sum_k sqrt(w_k)
    ess_p: Float[Array, " batch"]  # (sum_k w_k)^2 / (K sum_k w_k^2)
    ess_p_star: Float[Array, " batch"]  # the same of sqrt(w_k)


Loss = Float[Array, ""]
Rule = Callable[[PRNGKey, HelmholtzMachine, Bits[Array, "batch visible"]], tuple[Loss, Info]]


def _info(log_w: Float[Array, "samples batch"]) -> Info:
    return Info(log_mean_exp(log_w), 2 * log_mean_exp(log_w / 2), ess(log_w), ess(log_w / 2))


def bihm(
    key: PRNGKey, machine: HelmholtzMachine, x: Bits[Array, "batch visible"], *, K: int
) -> tuple[Loss, Info]:
    """Ascend log p~*(x) = 2 log sum_h sqrt(p(x, h) q(h | x)) (Bornschein et al. 2016, eq. 9).

    The gradient is sum_k W_k grad(log p + log q) with W_k = softmax_k(log w_k / 2). Since
    E_q[grad log q] = 0, q may use W_k - 1/K: the same mean, less variance.
    """
    h, log_q = machine.sample_q(key, x, K)
    log_p = machine.log_p(x, h)
    log_w = log_p - log_q
    W = normalised_weights(log_w / 2)
    surrogate = jnp.sum(W * log_p + (W - 1 / K) * log_q, axis=0)
    return -jnp.mean(surrogate), _info(log_w)


def rws(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    *,
    K: int,
    q_update: str,
    sleep_batch_size: int,
) -> tuple[Loss, Info]:
    """Reweighted wake-sleep (Bornschein & Bengio 2015, eqs. 5, 7 and 8), W_k = softmax_k(log w_k).

    p ascends sum_k W_k log p(x, h^k). q ascends sum_k W_k log q(h^k | x) ("wake"), log q(h' | x') on dreams
    (x', h') ~ p ("sleep"), or half of each ("both").
    """
    wake_key, sleep_key = jax.random.split(key)
    h, log_q = machine.sample_q(wake_key, x, K)
    log_p = machine.log_p(x, h)
    log_w = log_p - log_q
    W = normalised_weights(log_w)
    wake_rate = {"wake": 1.0, "both": 0.5, "sleep": 0.0}[q_update]
    # A term with rate 0 is left out, not multiplied by 0: its gradient would be paid for all the same.
    surrogate = W * log_p + wake_rate * W * log_q if wake_rate else W * log_p
    loss = -jnp.mean(jnp.sum(surrogate, axis=0))
    if q_update != "wake":
        loss += (1 - wake_rate) * _sleep_loss(sleep_key, machine, sleep_batch_size)
    return loss, _info(log_w)


def wake_sleep(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    *,
    K: int,
    sleep_batch_size: int,
) -> tuple[Loss, Info]:
    """Wake-sleep (Hinton et al. 1995): p ascends log p(x, h), h ~ q; q ascends log q(h' | x'), dreams ~ p.

    K = 1 is the classic rule; more samples average its wake phase, with the same mean.
    """
    wake_key, sleep_key = jax.random.split(key)
    h, log_q = machine.sample_q(wake_key, x, K)
    log_p = machine.log_p(x, h)
    loss = -jnp.mean(log_p) + _sleep_loss(sleep_key, machine, sleep_batch_size)
    return loss, _info(log_p - log_q)


def _sleep_loss(key: PRNGKey, machine: HelmholtzMachine, batch_size: int) -> Loss:
    """-log q(h' | x') for dreams (x', h') ~ p(x, h)."""
    x, h = machine.sample_p(key, batch_size)
    return -jnp.mean(machine.log_q(x, h))


def make_rule(name: str, *, K: int, q_update: str = "both", sleep_batch_size: int = 1) -> Rule:
    """Choose a rule by its name in a configuration."""
    if name == "bihm":
        return partial(bihm, K=K)
    if name == "rws":
        return partial(rws, K=K, q_update=q_update, sleep_batch_size=sleep_batch_size)
    return partial(wake_sleep, K=K, sleep_batch_size=sleep_batch_size)
