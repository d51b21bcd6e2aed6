"""A split is estimated in tiles, several at a time: their order, their keys, and how they stop."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import states
from tiny_machine import tiny_machine, whole_tile

from bihm.kernels import together
from bihm.kernels.compiled import fast_jit
from bihm.kernels.together import Meeting
from bihm.machine import tails
from bihm.machine.likelihood import Stretch, log_weights
from bihm.machine.machine import bind, split
from bihm.run.estimates import splits
from bihm.run.estimates.splits import each_tile, estimate_split


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
        alone = whole_tile(tile_key, structure, params, tile, 10, block=10)
        np.testing.assert_array_equal(got.log_p[2 * i : 2 * i + 2], alone.log_p)


@pytest.mark.long
def test_estimates_and_tails_of_many_stretches_are_those_of_all_samples_at_once():
    """2350 samples: a stretch of 1000, another one, and one that is not full, in blocks of 100."""
    structure, params = split(tiny_machine(visible=3, scale=1.5))
    rows, K, block = states(3).astype(np.uint8)[:5], 2350, 100
    x, key = jnp.asarray(rows, jnp.float32), jax.random.fold_in(jax.random.key(2), 0)
    draw = jax.jit(lambda key: log_weights(key, bind(structure, params), x, block))
    drawn = np.concatenate([draw(jax.random.fold_in(key, i)) for i in range(24)])[:K]
    got = estimate_split(jax.random.key(2), structure, params, rows, K, block=block)
    exact = np.logaddexp.reduce(drawn.astype(np.float64), axis=0) - np.log(K)
    np.testing.assert_allclose(got.log_p, exact, atol=1e-5)
    tail = np.sort(drawn, axis=0)[-(tails.tail_size(K) + 1) :].T
    np.testing.assert_allclose(got.k_hat_p, tails.k_hat(tail), rtol=1e-4)
    np.testing.assert_allclose(got.k_hat_p_star, tails.k_hat(tail, 0.5), rtol=1e-4)
    without = estimate_split(
        jax.random.key(2), structure, params, rows, K, block=block, k_hat=False
    )
    assert without.k_hat_p is without.k_hat_p_star is None
    np.testing.assert_array_equal(without.log_p, got.log_p)


def test_reports_come_in_order_and_in_the_callers_thread():
    seen = []

    def report(done, total):
        seen.append((done, total, threading.current_thread() is threading.main_thread()))

    assert list(each_tile(lambda some: [i * i for i in some], 5, report)) == [0, 1, 4, 9, 16]
    assert seen == [(i, 5, True) for i in range(1, 6)]


def test_whoever_stops_at_a_report_does_not_wait_for_the_other_tiles(monkeypatch):
    monkeypatch.setattr(splits, "_streams", lambda: 2)
    started, finished, go_on = [], [], threading.Event()

    def estimate(some):
        started.append(some[0])
        if some[0] > 1:
            go_on.wait(10)
        finished.append(some[0])
        return some

    def report(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(each_tile(estimate, 100, report))
    assert sorted(finished) == [0, 1]
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPool"):
            thread.join()
    assert len(started) < 10


def test_an_error_in_a_tile_is_the_callers():
    def estimate(some):
        if 3 in some:
            raise FloatingPointError("here")
        return some

    with pytest.raises(FloatingPointError, match="here"):
        list(each_tile(estimate, 5, lambda done, total: None))


def test_runs_made_together_share_the_calls_of_all_their_tiles(monkeypatch):
    """In a thread that takes no part a call would be made alone."""
    monkeypatch.setattr(splits, "_streams", lambda: 2)
    meeting, found, alone = Meeting(2, lambda: None), {}, []

    @fast_jit
    def doubled(x):
        return 2 * x

    def estimate(some):
        if together.meeting() is None:
            alone.append(some)
        return [float(doubled(np.float32([i]))[0]) for i in some]

    def work(run):
        with meeting.taking_part():
            found[run] = list(each_tile(estimate, 5, lambda done, total: None))

    threads = [threading.Thread(target=work, args=(run,), daemon=True) for run in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {run: [0.0, 2.0, 4.0, 6.0, 8.0] for run in range(2)}
    assert (meeting.sizes, alone) == ([2], [])


class Calls:
    """Stands for the compiled estimates: a row's number is the sum of its bits, whatever its tile."""

    def __init__(self, monkeypatch):
        self.tiles, self.z, self.reports = {}, {}, []
        monkeypatch.setattr(splits, "estimate_tile", self.estimate_tile)
        monkeypatch.setattr(splits, "log_z_tile", self.log_z_tile)
        monkeypatch.setattr(splits, "TILE", 6)

    def number(self, key):
        """Which tile a key is of."""
        keys = [jax.random.key_data(jax.random.fold_in(KEY, i)).tolist() for i in range(9)]
        return keys.index(jax.random.key_data(key).tolist())

    def estimate_tile(self, key, structure, params, x, sums, first, K, *, block):
        assert (structure, params) == ("structure", "params")
        x = np.asarray(x)
        self.tiles[self.number(key)] = (x.shape, int(K), block)
        estimates = splits.Estimates(*(x.sum(axis=1) + 10 * i for i in range(4)))
        return Stretch(estimates, sums, np.zeros((int(K), len(x)), np.float32))

    def log_z_tile(self, key, structure, params, *, outer, inner):
        assert (structure, params) == ("structure", "params")
        self.z[self.number(key)] = (outer, inner)
        return -1.0 - self.number(key) - np.arange(outer) / outer

    def report(self, done, total):
        self.reports.append((done, total))


KEY = jax.random.key(3)


@pytest.mark.parametrize(
    ("rows", "K", "block", "heights"),
    [(7, 2, None, [3, 3, 3]), (6, 9, 2, [3, 3]), (2, 2, None, [2]), (3, 50, 7, [1, 1, 1])],
)
def test_rows_are_cut_into_tiles_of_one_shape_and_come_back_in_order(
    rows, K, block, heights, monkeypatch
):
    calls = Calls(monkeypatch)
    x = np.triu(np.ones((8, 8), np.uint8))[:rows]
    got = estimate_split(KEY, "structure", "params", x, K, block=block, report=calls.report)
    for i, values in enumerate(got[:4]):
        np.testing.assert_array_equal(values, x.sum(axis=1) + 10 * i)
    expected = [((height, 8), K, block or K) for height in heights]
    assert [calls.tiles[i] for i in sorted(calls.tiles)] == expected
    assert sorted(calls.tiles) == list(range(len(heights)))
    assert calls.reports == [(i + 1, len(heights)) for i in range(len(heights))]


@pytest.mark.parametrize(
    ("outer", "inner", "height", "tiles"), [(7, 2, 3, 3), (6, 3, 2, 3), (2, 3, 2, 1), (3, 50, 1, 3)]
)
def test_2_log_z_is_made_of_as_many_outer_samples_as_asked_for(
    outer, inner, height, tiles, monkeypatch
):
    calls = Calls(monkeypatch)
    z = splits.estimate_log_z(KEY, "structure", "params", outer, inner, calls.report)
    terms = np.array([-1.0 - i - j / height for i in range(tiles) for j in range(height)])[:outer]
    assert z.mean == pytest.approx(np.log(np.exp(terms).mean()))
    assert (z.outer, z.inner) == (outer, inner)
    assert calls.z == dict.fromkeys(range(tiles), (height, inner))
    assert calls.reports == [(i + 1, tiles) for i in range(tiles)]


def test_sizes_of_blocks_and_the_number_of_streams(monkeypatch):
    assert [splits.block_size(K) for K in (1, 99, 100, 101, 10**6)] == [1, 99, 100, 100, 100]
    for cores, streams in ((1, 1), (2, 2), (64, 4), (None, 1)):
        monkeypatch.setattr(splits.os, "cpu_count", lambda cores=cores: cores)
        assert splits._streams() == streams
    monkeypatch.setattr(splits.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(splits.jax, "default_backend", lambda: "gpu")
    assert splits._streams() == 1
