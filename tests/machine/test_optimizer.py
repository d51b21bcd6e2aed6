"""What turns a gradient into a step, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihm.machine.optimizer import (
    Rates,
    learning_rate,
    make_optimizer,
    move_average,
    penalise,
)

W, B = np.array([[2.0, -0.5, 0.0]], np.float32), np.array([4.0, -3.0], np.float32)


@pytest.mark.parametrize(("l1", "l2"), [(0.5, 0.0), (0.0, 0.25), (0.5, 0.25)])
def test_each_penalty_alone_moves_the_weights_and_no_bias(l1, l2):
    grads = {"w": jnp.ones((1, 3)), "b": jnp.ones(2)}
    got = penalise(grads, {"w": jnp.asarray(W), "b": jnp.asarray(B)}, l1, l2)
    np.testing.assert_allclose(got["w"], 1 + l1 * np.sign(W) + 2 * l2 * W, rtol=1e-6)
    np.testing.assert_array_equal(got["b"], [1, 1])


def test_a_cosine_goes_from_its_start_to_its_end_and_stays_there():
    rates = Rates.of(0.8, 0.2, first_step=10, steps=8)
    assert [np.asarray(a).item() for a in rates] == pytest.approx([0.8, 0.2, 10, 8, 0, 0])
    got = [float(learning_rate(rates, jnp.asarray(step))) for step in (0, 10, 12, 14, 16, 18, 99)]
    turn = 0.3 * np.cos(np.pi / 4)
    np.testing.assert_allclose(got, [0.8, 0.8, 0.5 + turn, 0.5, 0.5 - turn, 0.2, 0.2], rtol=1e-6)


def steps_of(name, grads, clip=None):
    """The directions of a few gradients, one after the other."""
    transform = make_optimizer(name, clip=clip).transform
    state, directions = transform.init([jnp.zeros(2)]), []
    for grad in grads:
        (direction,), state = transform.update([jnp.asarray(grad)], state, [jnp.zeros(2)])
        directions.append(np.asarray(direction))
    return np.array(directions)


GRADS = np.array([[3.0, -4.0], [0.3, 0.1], [-6.0, 8.0]], np.float32)


def test_a_gradient_is_clipped_where_it_is_too_long_and_only_there():
    np.testing.assert_allclose(steps_of("sgd", GRADS), -GRADS)
    clipped = steps_of("sgd", GRADS, clip=5.0)
    np.testing.assert_allclose(clipped, [[-3, 4], [-0.3, -0.1], [3, -4]], rtol=1e-6)


@pytest.mark.parametrize("clip", [None, 5.0])
def test_adam_is_kingma_and_bas_of_the_clipped_gradient(clip):
    mean, square, expected = np.zeros(2), np.zeros(2), []
    for t, g in enumerate(GRADS.astype(np.float64), start=1):
        g = g if clip is None else g * min(1, clip / np.linalg.norm(g))
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        root = np.sqrt(square / (1 - 0.999**t))
        expected.append(-mean / (1 - 0.9**t) / (root + 1e-8))
    np.testing.assert_allclose(steps_of("adam", GRADS, clip), expected, rtol=1e-4)


def test_an_average_moves_by_what_its_decay_leaves():
    (got,) = move_average([jnp.asarray(B)], [jnp.zeros(2)], 0.75)
    np.testing.assert_allclose(got, 0.75 * B)
    (got,) = move_average([jnp.zeros(2)], [jnp.asarray(B)], 0.75)
    np.testing.assert_allclose(got, 0.25 * B)
    assert move_average(None, [jnp.zeros(2)], 0.75) is None
    assert move_average([jnp.zeros(2)], [jnp.zeros(2)], None) is None


def test_an_optimiser_keeps_what_it_was_asked_for():
    kept = make_optimizer("adam", clip=1.0, penalised=True, average=0.9)
    assert (kept.penalised, kept.average) == (True, 0.9)
    assert make_optimizer("adam", clip=None).average is None
    assert len(jax.tree.leaves(kept.transform.init([jnp.zeros(2)]))) == 3  # moments and a count
