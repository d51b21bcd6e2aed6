"""The training rules: the file to read first, and the one to change.

Each rule is a function `(key, machine, x, ...) -> (loss, Info)` whose gradient is the rule's update
direction with its sign turned; one that changes in the course of training takes `step`, too, the number
of updates done. Samples and normalised weights are constants to the gradient, so each layer's gradient is
that of a logistic regression on weighted examples and nothing flows between stochastic layers.
"""

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from bihm.kernels.numerics import ess, log_mean_exp, normalised_weights
from bihm.kernels.spread import rows_here
from bihm.machine.machine import HelmholtzMachine, Latents
from bihm.types import Array, Bits, Float, PRNGKey


class Info(NamedTuple):
    """What an observer of a step may want: K-sample estimates for each example, in nats."""

    log_p: Float[Array, " batch"]  # log (1/K) sum_k w_k
    log_p_tilde_star: Float[Array, " batch"]  # 2 log (1/K) sum_k sqrt(w_k)
    ess_p: Float[Array, " batch"]  # (sum_k w_k)^2 / (K sum_k w_k^2)
    ess_p_star: Float[Array, " batch"]  # the same of sqrt(w_k)


Loss = Float[Array, ""]
Rule = Callable[..., tuple[Loss, Info]]  # of (key, machine, x, step=None)
Step: TypeAlias = Array | int | None  # updates done


def _info(log_w: Float[Array, "samples batch"]) -> Info:
    return Info(log_mean_exp(log_w), 2 * log_mean_exp(log_w / 2), ess(log_w), ess(log_w / 2))


def _warmed(
    log_w: Float[Array, "samples batch"],
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    h: Latents,
    step: Step,
    warm_up: int,
) -> Float[Array, "samples batch"]:
    """log p(x | h_1) + beta log(p(h) / q(h | x)), with beta rising from 0 to 1 over `warm_up` updates.

    A sample is weighed at first by how well it explains x, whatever its latents cost, so that units come
    into use before that cost makes them silent. It is what warms up a variational autoencoder (Sonderby et
    al. 2016), here in the weights of samples. From then on, and without a warm-up, it is log w.
    """
    if step is None or not warm_up:
        return log_w
    log_p_x = machine.log_p_visible(x, h)
    return log_p_x + jnp.minimum(step / warm_up, 1) * (log_w - log_p_x)


def bihm(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    step: Step = None,
    *,
    K: int,
    warm_up: int = 0,
) -> tuple[Loss, Info]:
    """Ascend log p~*(x) = 2 log sum_h sqrt(p(x, h) q(h | x)) (Bornschein et al. 2016, eq. 9).

    The gradient is sum_k W_k grad(log p + log q) with W_k = softmax_k(log w_k / 2). Since
    E_q[grad log q] = 0, q may use W_k - 1/K: the same mean, less variance.
    """
    h, log_q = machine.sample_q(key, x, K)
    log_p = machine.log_p(x, h)
    log_w = log_p - log_q
    W = normalised_weights(_warmed(log_w, machine, x, h, step, warm_up) / 2)
    surrogate = jnp.sum(W * log_p + (W - 1 / K) * log_q, axis=0)
    return -jnp.mean(surrogate), _info(log_w)


def rws(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    step: Step = None,
    *,
    K: int,
    q_update: str = "both",
    sleep_batch_size: int | None = None,
    warm_up: int = 0,
) -> tuple[Loss, Info]:
    """Reweighted wake-sleep (Bornschein & Bengio 2015, eqs. 5, 7 and 8), W_k = softmax_k(log w_k).

    p ascends sum_k W_k log p(x, h^k). q ascends sum_k W_k log q(h^k | x) ("wake"), log q(h' | x') on dreams
    (x', h') ~ p ("sleep"), or half of each ("both"). A step dreams `sleep_batch_size` rows, by
    default as many as x has.
    """
    wake_key, sleep_key = jax.random.split(key)
    h, log_q = machine.sample_q(wake_key, x, K)
    log_p = machine.log_p(x, h)
    log_w = log_p - log_q
    W = normalised_weights(_warmed(log_w, machine, x, h, step, warm_up))
    wake_rate = {"wake": 1.0, "both": 0.5, "sleep": 0.0}[q_update]
    # A term with rate 0 is left out, not multiplied by 0: its gradient would be paid for all the same.
    surrogate = W * log_p + wake_rate * W * log_q if wake_rate else W * log_p
    loss = -jnp.mean(jnp.sum(surrogate, axis=0))
    if q_update != "wake":
        loss += (1 - wake_rate) * _sleep_loss(sleep_key, machine, _dreams(x, sleep_batch_size))
    return loss, _info(log_w)


def wake_sleep(
    key: PRNGKey,
    machine: HelmholtzMachine,
    x: Bits[Array, "batch visible"],
    *,
    K: int,
    sleep_batch_size: int | None = None,
) -> tuple[Loss, Info]:
    """Wake-sleep (Hinton et al. 1995): p ascends log p(x, h), h ~ q; q ascends log q(h' | x'), dreams ~ p.

    K = 1 is the classic rule; more samples average its wake phase, with the same mean.
    `sleep_batch_size` is as in `rws`.
    """
    wake_key, sleep_key = jax.random.split(key)
    h, log_q = machine.sample_q(wake_key, x, K)
    log_p = machine.log_p(x, h)
    loss = -jnp.mean(log_p) + _sleep_loss(sleep_key, machine, _dreams(x, sleep_batch_size))
    return loss, _info(log_p - log_q)


def _dreams(x: Bits[Array, "batch visible"], asked: int | None) -> int:
    """How many rows a step dreams here, where a batch may be spread over devices."""
    return x.shape[0] if asked is None else rows_here(asked)


def _sleep_loss(key: PRNGKey, machine: HelmholtzMachine, batch_size: int) -> Loss:
    """-log q(h' | x') for dreams (x', h') ~ p(x, h)."""
    x, h = machine.sample_p(key, batch_size)
    return -jnp.mean(machine.log_q(x, h))


class RuleSpec(NamedTuple):
    """A rule that a configuration can ask for with `model=NAME`."""

    rule: Rule  # its keyword arguments are K and the keys `model.*`
    likelihood: str = "log_p"  # the estimate that it ascends and that early stopping watches

    @property
    def options(self) -> set[str]:
        """The keys of `model` that it reads: its keyword-only arguments, save for K."""
        arguments = inspect.signature(self.rule).parameters.values()
        return {one.name for one in arguments if one.kind == one.KEYWORD_ONLY} - {"K"}

    @property
    def has_p_star(self) -> bool:
        """Whether its model is p*, so that 2 log Z and samples of p* have a meaning."""
        return self.likelihood == "log_p_tilde_star"


# Every rule there is. Whoever wants another one writes its function above and its name here.
RULES = {
    "bihm": RuleSpec(bihm, likelihood="log_p_tilde_star"),
    "rws": RuleSpec(rws),
    "wake_sleep": RuleSpec(wake_sleep),
}


def has_p_star(name: str) -> bool:
    """Whether the model of this name is p*; one that no rule here trains is not."""
    return name in RULES and RULES[name].has_p_star


@cache  # the same function for the same options: what is compiled with it can be used again
def make_rule(name: str, *, K: int, **options: Any) -> Rule:
    """The rule of this name with its options; those that it does not have are left out.

    It takes `(key, machine, x, step)`; without `step` nothing is warmed up.
    """
    spec = RULES[name]
    own = {key: value for key, value in options.items() if key in spec.options}
    rule = partial(spec.rule, K=K, **own)
    if "step" in inspect.signature(spec.rule).parameters:
        return rule
    return lambda key, machine, x, step=None: rule(key, machine, x)
