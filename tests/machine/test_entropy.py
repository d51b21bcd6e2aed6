"""Each rule, trained on samples of a known distribution, comes close to its entropy and not below it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import exact, states

from bihm.machine.layers import Init
from bihm.machine.machine import bind, make_machine, split
from bihm.machine.minibatches import plan_epoch
from bihm.machine.optimizer import Rates, make_optimizer
from bihm.machine.rules import make_rule
from bihm.machine.training_step import init_state, make_chunk

VISIBLE, SIZES = 6, [4, 3]


def distribution():
    """A mixture of three noisy patterns over six bits: its table, and so its entropy, is known."""
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 1]])
    weights, flip = np.array([0.5, 0.3, 0.2]), 0.08
    wrong = np.abs(states(VISIBLE)[:, None] - patterns[None]).sum(axis=2)
    return (weights * flip**wrong * (1 - flip) ** (VISIBLE - wrong)).sum(axis=1)


@pytest.mark.long
@pytest.mark.parametrize("name", ["bihm", "rws", "wake_sleep"])
def test_a_rule_reaches_the_entropy_of_its_data(name):
    p = distribution()
    assert p.sum() == pytest.approx(1)
    entropy = -(p * np.log(p)).sum()
    rng = np.random.default_rng(0)
    train, test = (rng.choice(len(p), size, p=p) for size in (20_000, 10_000))
    rows = jnp.asarray(states(VISIBLE)[train], jnp.uint8)

    machine = make_machine(rng, VISIBLE, SIZES, *_layers(), Init())
    structure, params = split(machine)
    optimizer = make_optimizer("adam", clip=None)
    plan = plan_epoch(len(rows), 100, longest=100)
    rule = make_rule(name, K=10, sleep_batch_size=100)
    chunk = make_chunk(structure, rule, optimizer, plan, batch_size=100, grey=False)
    epochs = 30 if name == "wake_sleep" else 15  # it leaves the first plateau later
    rates = Rates.of(1e-2, 1e-4, 0, epochs * plan.steps_per_epoch)
    state = init_state(params, optimizer)
    for _ in range(epochs * plan.chunks):
        state, _ = chunk(state, jax.random.key(0), rows, rates)

    nll = -exact(bind(structure, state.params)).log_p[test]
    error = nll.std(ddof=1) / np.sqrt(len(nll))
    assert nll.mean() <= 1.02 * entropy
    assert nll.mean() >= entropy - 3 * error


def _layers():
    return ["sbn"] * (len(SIZES) + 1), ["sbn"] * len(SIZES)
