"""A split is estimated in tiles, several at a time: their order, their keys, and how they stop."""

import threading

import jax
import numpy as np
import pytest
from oracle import states
from tiny_machine import tiny_machine

from bihm.machine.machine import split
from bihm.run import splits
from bihm.run.splits import _each_tile, estimate_split


@pytest.mark.parametrize("streams", [1, 3])
def test_every_row_gets_the_numbers_of_its_own_tile(streams, monkeypatch):
    monkeypatch.setattr(splits, "_streams", lambda: streams)
    monkeypatch.setattr(splits, "TILE", 20)
    structure, params = split(tiny_machine(visible=3))
    key = jax.random.key(0)
    rows = np.tile(states(3).astype(np.uint8), (3, 1))  # 24 rows: twelve tiles of two
    got = estimate_split(key, structure, params, rows, 10)
    for i in range(12):
        tile_key, tile = jax.random.fold_in(key, i), np.float32(rows[2 * i : 2 * i + 2])
        alone = splits.estimate_tile(tile_key, structure, params, tile, np.int32(10), block=10)
        np.testing.assert_array_equal(got.log_p[2 * i : 2 * i + 2], alone.log_p)


def test_reports_come_in_order_and_in_the_callers_thread():
    seen = []

    def report(done, total):
        seen.append((done, total, threading.current_thread() is threading.main_thread()))

    assert list(_each_tile(lambda i: i * i, 5, report)) == [0, 1, 4, 9, 16]
    assert seen == [(i, 5, True) for i in range(1, 6)]


def test_whoever_stops_at_a_report_does_not_wait_for_the_other_tiles(monkeypatch):
    monkeypatch.setattr(splits, "_streams", lambda: 2)
    started, finished, go_on = [], [], threading.Event()

    def estimate(i):
        started.append(i)
        if i > 1:
            go_on.wait(10)
        finished.append(i)
        return i

    def report(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(_each_tile(estimate, 100, report))
    assert sorted(finished) == [0, 1]
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPool"):
            thread.join()
    assert len(started) < 10


def test_an_error_in_a_tile_is_the_callers():
    def estimate(i):
        if i == 3:
            raise FloatingPointError("here")
        return i

    with pytest.raises(FloatingPointError, match="here"):
        list(_each_tile(estimate, 5, lambda done, total: None))
