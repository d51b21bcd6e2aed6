"""Threads that meet: calls of one program are made at once, each gets its own, and none waits for ever."""

import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bihm.kernels import together
from bihm.kernels.compiled import fast_jit
from bihm.kernels.together import Meeting, free_memory, on_device_once
from bihm.signals import stop_request


@partial(fast_jit, static_argnames="power")
def raised(key, x, *, power):
    return (x + jax.random.uniform(key, x.shape)) ** power


@partial(fast_jit, donate_argnums=0)
def trained(state, step):
    return state + jnp.sin(step)


@fast_jit
def summed(x):
    return jnp.sum(x)


def meet(*works, free=lambda: None):
    """What each of these functions returns, or raises, in a thread of its own that takes part."""
    meeting, found = Meeting(len(works), free), [None] * len(works)

    def work(i):
        with meeting.taking_part():
            try:
                found[i] = works[i]()
            except Exception as error:
                found[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return found, meeting


def call(seed, power=2):
    key, x = jax.random.key(seed), np.arange(3.0, dtype=np.float32) + seed
    return lambda: raised(key, x, power=power)


def test_calls_of_one_program_are_one_and_each_gets_what_it_would_have_got():
    found, meeting = meet(*map(call, range(5)))
    assert meeting.sizes == [5]
    for seed, result in enumerate(found):
        np.testing.assert_array_equal(result, call(seed)())


def test_calls_that_differ_in_shape_or_option_are_made_apart():
    longer = partial(raised, jax.random.key(9), np.ones(4, np.float32), power=2)
    found, meeting = meet(call(0), call(1), call(2, power=3), call(3, power=3), longer)
    assert sorted(meeting.sizes) == [2, 2]
    np.testing.assert_array_equal(found[3], call(3, power=3)())
    np.testing.assert_array_equal(found[4], longer())


def steps(count, start=0.0):
    def work():
        state = jnp.full(2, start)
        for i in range(count):
            state = trained(state, jnp.full(2, float(i)))
        return state

    return work


def test_whoever_ends_leaves_the_others_to_go_on_with_the_same_program():
    found, meeting = meet(steps(2), steps(4, 1.0), steps(4, 2.0))
    assert meeting.sizes == [3]  # two of them fill the axis of three
    for result, (count, start) in zip(found, [(2, 0.0), (4, 1.0), (4, 2.0)], strict=True):
        np.testing.assert_allclose(result, steps(count, start)(), rtol=1e-6)


def test_far_fewer_than_an_axis_is_long_get_one_of_their_own():
    _, meeting = meet(steps(6), steps(6), *[steps(1)] * 3)
    assert meeting.sizes == [5, 2]


def test_training_waits_for_an_estimate_so_that_all_train_together_again():
    made = []

    def estimating():
        for i in range(3):
            made.append(float(summed(jnp.ones(i + 1))))
        return steps(1)()

    _, meeting = meet(steps(1), estimating, estimating)
    assert sorted(made) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]
    assert meeting.sizes == [2, 2, 2, 3]


def test_what_breaks_in_one_is_told_there_alone():
    def breaks():
        raise ValueError("mine")

    def nan():
        return trained(jnp.full(2, jnp.nan), jnp.zeros(2))

    (error, broken, whole), _ = meet(breaks, nan, steps(1))
    assert str(error) == "mine"
    assert np.isnan(broken).all()
    np.testing.assert_array_equal(whole, steps(1)())


def test_a_call_that_cannot_be_made_is_told_to_all_who_made_it():
    def wrong():
        return raised(jax.random.key(0), np.ones(3, np.float32), power="x")

    found, _ = meet(wrong, wrong, call(1))
    assert [isinstance(one, TypeError) for one in found] == [True, True, False]


@pytest.mark.long
def test_memory_bounds_how_many_are_one_program():
    one = np.ones((1000, 50), np.float32)  # a result of 200 kB
    works = [partial(raised, jax.random.key(i), one + i, power=2) for i in range(8)]
    needs = together._memory(
        together._compile([together._Call(*arguments(work)) for work in works[:4]], (False, False))
    )
    found, meeting = meet(*works, free=lambda: int(needs / together.FREE) + 1)
    assert meeting.sizes == [4]
    for work, result in zip(works, found, strict=True):
        np.testing.assert_array_equal(result, work())
    found, meeting = meet(*works, free=lambda: 10)
    assert meeting.sizes == []  # one after the other
    np.testing.assert_array_equal(found[7], works[7]())


def arguments(work):
    """Of a call as the meeting gets it."""
    caught = []
    taker = type("Taker", (), {"call": lambda self, *given: caught.append(given)})()
    together._thread.meeting = taker
    try:
        work()
    finally:
        together._thread.meeting = None
    ((program, given, named),) = caught
    bound = dict(zip(("key", "x"), given, strict=True)) | named
    return program, bound


def test_a_device_that_runs_out_of_memory_gets_fewer(monkeypatch):
    real = together._compile

    def compile_(calls, shared):
        def refuses(*given):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

        return real(calls, shared) if len(calls) < 3 else refuses

    monkeypatch.setattr(together, "_compile", compile_)
    monkeypatch.setattr(together, "_memory", lambda compiled: 0)
    found, _ = meet(*map(call, range(4)))
    for seed, result in enumerate(found):
        np.testing.assert_array_equal(result, call(seed)())


def test_equal_rows_are_on_the_device_once():
    rows = [np.arange(6, dtype=np.uint8).reshape(2, 3) for _ in range(2)]
    works = [partial(on_device_once, one) for one in (*rows, rows[0] + 1)]
    (a, b, other), _ = meet(*works)
    assert a is b
    np.testing.assert_array_equal(other, rows[0] + 1)
    assert on_device_once(rows[0]) is not on_device_once(rows[0])


def test_the_device_says_what_memory_is_free():
    assert free_memory() > 1e6


def test_a_signal_that_the_main_thread_hears_is_heard_by_all():
    def heard():
        with stop_request() as request:
            return request

    with stop_request() as request:
        (mine, other), _ = meet(heard, heard)
        assert mine is other is request
    (mine, other), _ = meet(heard, heard)
    assert mine is not other


def test_a_thread_that_takes_no_part_is_left_alone():
    assert together.meeting() is None
    np.testing.assert_array_equal(summed(jnp.ones(3)), 3.0)


@pytest.mark.parametrize("count", [1, 2])
def test_shared_arguments_are_not_multiplied(count):
    x = jnp.arange(3.0)
    calls = [
        together._Call(*arguments(partial(raised, jax.random.key(i), x, power=2)))
        for i in range(count)
    ]
    own, common = together._split(calls, together._shared(calls))
    assert [len(own), len(common)] == [count, 1 if count > 1 else 2]
