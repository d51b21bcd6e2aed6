"""The loop alone: its steps, estimates and files are stand-ins, so that only its decisions are tried."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import tiny

from bihm.config import PhaseConfig
from bihm.errors import Interrupted, NumbersError
from bihm.kernels.packing import pack
from bihm.machine.likelihood import Estimates, LogZ
from bihm.machine.rules import Info
from bihm.machine.training_step import ChunkInfo, StepInfo, TrainState
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.logbook import Logbook
from bihm.records.progress import Progress
from bihm.run import build
from bihm.run.build import first_state, make_run
from bihm.run.families import helmholtz
from bihm.run.training import loop
from bihm.signals import StopRequest

STEPS = 20  # of an epoch of `tiny`


def marked(tree, number):
    return jax.tree.map(lambda leaf: np.full_like(leaf, number), tree)


def mark(tree):
    """The number that `marked` put into every leaf."""
    (number,) = {float(x) for leaf in jax.tree.leaves(tree) for x in np.ravel(leaf)}
    return number


def take(tree):
    """What a chunk does with the buffers of its state: whoever wants to keep one has a copy."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, np.ndarray):
            leaf[...] = -1
        elif not leaf.is_deleted():
            leaf.delete()


class Book(Logbook):
    """Keeps what it is told."""

    def __init__(self):
        self.kept = []

    def evaluation(self, step, epoch, seconds, scalars):
        self.kept.append({"step": step, "epoch": epoch, "seconds": seconds, **scalars})

    def layout(self, names):
        pass


class Store(Checkpoints):
    """Keeps copies, as the loop's buffers are used again, and counts who waits."""

    def __init__(self):
        self.kept, self.waits = [], 0

    def save(self, checkpoint):
        states = (jax.tree.map(np.array, state) for state in checkpoint[:2])
        self.kept.append((*states, dict(checkpoint.memory)))

    def prepare(self):
        pass

    def wait(self):
        self.waits += 1


class World:
    """What surrounds a loop. Parameters say the step they are of, their average the step plus a half."""

    def __init__(self, monkeypatch, scores, seconds_a_chunk=0.0):
        self.scores = scores  # of each evaluation of parameters, by their mark
        self.compiled, self.rates, self.keys, self.rows = [], [], [], []
        self.evaluated, self.pictures, self.advanced = [], [], []
        self.book, self.store = Book(), Store()
        self.lines, self.saved = self.book.kept, self.store.kept
        self.loss = 2.0
        self.clock = 1000.0
        self.seconds_a_chunk = seconds_a_chunk
        self.stop = StopRequest()
        self.stop_at_chunk = self.stop_at_tile = None
        self.chunks = self.tiles = 0
        monkeypatch.setattr(loop.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(loop, "_copy", lambda tree: jax.tree.map(np.array, tree))
        monkeypatch.setattr(loop, "_kept_chunk", self.make_chunk)
        monkeypatch.setattr(helmholtz, "estimate_split", self.estimate_split)
        monkeypatch.setattr(helmholtz, "estimate_log_z", self.estimate_log_z)
        monkeypatch.setattr(
            loop.images.Gallery, "show", lambda *a: self.pictures.append(a[3:]) or "units in use"
        )  # (step, seconds)

    def make_chunk(
        self, structure, rule, optimizer, plan, *, batch_size, grey, precision, see, softened, mesh
    ):
        assert mesh is None
        assert see == self.run.family.see
        self.compiled.append((rule.keywords["K"], batch_size, grey, precision, softened))

        def chunk(state, key, rows, rates):
            self.rates.append([float(x) for x in rates])
            self.keys.append(key)
            self.chunks += 1
            self.clock += self.seconds_a_chunk
            if self.chunks == self.stop_at_chunk:
                self.stop.signal = "SIGTERM"
            step = int(state.step) + plan.length
            grads = pack(marked(state.params, 1.0))[0]
            per_step = np.full(plan.length, self.loss)
            info = StepInfo(per_step, per_step, Info(*[per_step] * 4))
            average = None if state.average is None else marked(state.average, step + 0.5)
            params, at = marked(state.params, step), np.asarray(step, np.int32)
            new = TrainState(params, marked(state.opt_state, step), average, at)
            take(state)
            return new, ChunkInfo(info, grads)

        return chunk

    def estimate_split(self, key, structure, params, rows, K, *, block, k_hat, report):
        assert not k_hat  # of some ten samples there is none
        self.evaluated.append(mark(params))
        self.tiles += 1
        if self.tiles == self.stop_at_tile:
            self.stop.signal = "SIGTERM"
        report(1, 1)
        self.asked = (key, rows, K, block)
        score = self.scores(mark(params))
        values = [np.array([score + d - 1, score + d + 1]) for d in (0.25, 0, 0.5, 0.75)]
        return Estimates(*values)

    def estimate_log_z(self, key, structure, params, outer, inner, report):
        assert mark(params) == self.evaluated[-1]
        self.asked_z = (key, outer, inner)
        report(1, 1)
        return LogZ(-1.0, 0.1, -1.2, -0.8, outer, inner)

    def loop(self, start=None, **changes):
        self.run = make_run(tiny(**changes))
        state = first_state(self.run)
        start = start or Checkpoint(state, state, {})
        progress = Progress(
            lambda step, text: self.advanced.append((step, text)), lambda text: None
        )
        return loop.TrainingLoop(self.run, self.book, self.store, progress, self.stop, start)


@pytest.fixture
def world(monkeypatch):
    return lambda scores=lambda step: step, **more: World(monkeypatch, scores, **more)


def steps(world):
    return [line["step"] for line in world.lines]


@pytest.mark.parametrize(("average", "offset"), [(None, 0), (0.9, 0.5)])
def test_it_is_the_average_that_is_scored_where_there_is_one(world, average, offset):
    here = world(lambda step: -abs(step - 40.5))
    best = here.loop(epochs=3, optim__average=average).train()
    assert here.evaluated == [20 + offset, 40 + offset, 60 + offset]
    assert here.lines[1]["valid/log_p_tilde_star"] == pytest.approx(-0.5 + offset)
    norms = [value for name, value in here.lines[0].items() if name.startswith("weight_norm/p.0.w")]
    assert norms == [pytest.approx((20 + offset) * np.sqrt(16 * 6))]
    assert (mark(best.params), int(best.step)) == (40, 40)
    assert average is None or mark(best.average) == 40.5


@pytest.mark.parametrize("rule", ["bihm", "rws"])
def test_the_score_is_the_rules_own_likelihood(world, rule):
    here = world(lambda step: 1.0)
    running = here.loop(model__name=rule, epochs=2)
    running.train()
    own = {"bihm": 1.0, "rws": 1.25}[rule]
    assert running.memory.best_score == pytest.approx(own)
    assert running.memory.best_epoch == 1  # the first of equals
    line = here.lines[0]
    assert line["valid/log_p"] == pytest.approx(1.25)
    assert line["valid/log_p_sem"] == pytest.approx(np.std([0, 2], ddof=1) / np.sqrt(2))
    assert ("valid/two_log_z" in line) == (rule == "bihm")
    assert ("valid/two_log_z_stderr" in line) == (rule == "bihm")
    assert "valid/ess_p_sem" not in line


def test_an_estimate_is_made_with_the_runs_own_keys_rows_and_numbers(world):
    here = world()
    here.loop(epochs=1, eval__K=7, optim__soften=0.25).train()
    key, rows, K, block = here.asked
    assert key is here.run.keys.valid
    assert rows is here.run.dataset.valid
    assert (K, block) == (7, 7)
    assert here.asked_z == (here.run.keys.log_z, 400, 5)
    assert all(key is here.run.keys.train for key in here.keys)
    assert here.compiled == [(4, 250, False, "f32", 0.25)]


@pytest.mark.parametrize(("every", "expected"), [(1, [20, 40, 60, 80, 100]), (2, [40, 80, 100])])
def test_it_evaluates_every_so_many_epochs_and_at_the_end_once(world, every, expected):
    here = world()
    running = here.loop(epochs=5, eval__every=every)
    running.train()
    assert steps(here) == expected
    assert [line["epoch"] for line in here.lines] == [step / STEPS for step in expected]
    assert running.memory.stopped_by == "epochs"
    assert (running.step, running.epoch) == (100, 5)


def test_means_are_over_the_steps_since_the_evaluation_before(world):
    here = world()
    running = here.loop(epochs=2)
    original = running._evaluate

    def evaluate_and_rise():
        original()
        here.loss = 5.0

    running._evaluate = evaluate_and_rise
    running.train()
    assert [line["train/loss"] for line in here.lines] == [2.0, 5.0]
    sizes = [leaf.size for leaf in jax.tree.leaves(here.run.params)]
    norms = [here.lines[1][f"grad_norm/{name}"] for name in running.sums.parameter_names]
    np.testing.assert_allclose(norms, np.sqrt(sizes))


def test_each_phase_has_its_rate_from_where_it_begins(world, monkeypatch):
    monkeypatch.setattr(build, "LONGEST_CHUNK", 10)
    here = world()
    second = PhaseConfig(K=6, epochs=1, lr=0.5, lr_end=0.25)
    running = here.loop(
        optim__schedule="cosine", optim__lr=0.75, optim__lr_end=0.125,
        optim__phases=[PhaseConfig(epochs=2), second, PhaseConfig(K=5, epochs=1)],
        optim__l1=0.25, optim__l2=0.0625,
    )  # fmt: skip
    running.train()
    assert [K for K, *_ in here.compiled] == [4, 6, 5]
    assert [rates[:4] for rates in here.rates] == [[0.75, 0.125, 0, 40]] * 4 + [
        [0.5, 0.25, 40, 20]
    ] * 2 + [[0.75, 0.125, 60, 20]] * 2
    assert all(rates[4:] == [0.25, 0.0625] for rates in here.rates)
    assert (running.memory.phase, running.memory.phase_step) == (2, 60)


def test_the_next_phase_goes_on_from_the_best_and_counts_on(world):
    here = world(lambda step: -abs(step - 20))
    running = here.loop(optim__phases=[PhaseConfig(epochs=3), PhaseConfig(epochs=1)])
    begun, next_phase = [], running._next_phase

    def watch():
        next_phase()
        begun.append((mark(running.state.params), int(running.state.step)))
        assert running.state.params is not running.best.params  # a chunk takes its state's buffers

    running._next_phase = watch
    running.train()
    assert begun == [(20, 60)]
    assert steps(here) == [20, 40, 60, 80]


def test_patience_counts_from_the_best_and_anew_in_each_phase(world):
    """Both phases wait, the second from its own beginning, since its predecessor's best is older."""
    here = world(lambda step: -abs(step - 20))
    phases = [PhaseConfig(epochs=9), PhaseConfig(epochs=9, patience=3)]
    running = here.loop(optim__phases=phases, stop__patience=2)
    running.train()
    assert running.memory.stopped_by == "patience"
    assert running.memory.best_epoch == 1
    assert running.memory.phase_step == 60
    assert running.epoch == 3 + 3


def test_no_time_is_left_means_an_evaluation_and_the_end_of_all_phases(world, monkeypatch):
    monkeypatch.setattr(build, "LONGEST_CHUNK", 10)
    here = world(seconds_a_chunk=1.0)
    running = here.loop(optim__phases=[PhaseConfig(), PhaseConfig()], max_seconds=3.0)
    running.train()
    assert here.chunks == 4  # three seconds are not yet more than the limit
    assert running.memory.stopped_by == "max_seconds"
    assert steps(here) == [20, 40]
    assert [line["seconds"] for line in here.lines] == [2.0, 4.0]
    assert running.memory.seconds == pytest.approx(4.0)


@pytest.mark.parametrize("moment", ["chunk", "tile"])
def test_a_signal_is_heeded_after_a_chunk_or_a_tile_and_what_was_done_is_saved(
    world, monkeypatch, moment
):
    monkeypatch.setattr(build, "LONGEST_CHUNK", 10)
    here = world()
    if moment == "chunk":
        here.stop_at_chunk = 3
    else:
        here.stop_at_tile = 2
    running = here.loop(epochs=4, checkpoint__every_seconds=1e9)
    with pytest.raises(Interrupted, match="SIGTERM"):
        running.train()
    (latest, best, memory), step = here.saved[-1], {"chunk": 30, "tile": 40}[moment]
    assert len(here.saved) == 1
    assert here.store.waits == 1
    assert (int(latest.step), mark(latest.params)) == (step, step)
    assert (mark(best.params), memory["best_epoch"], memory["evaluated_step"]) == (20, 1, 20)
    assert memory["steps"] == step - 20  # their sums wait for the next evaluation
    assert memory["totals"]["train/loss"] == 2.0 * (step - 20)
    # Another process goes on from there as if nothing had been.
    again = world()
    again.loop(Checkpoint(latest, best, memory), epochs=4).train()
    assert steps(again) == [40, 60, 80]
    assert again.chunks == (80 - step) / 10
    assert [line["train/loss"] for line in again.lines] == [2.0] * 3


def test_a_signal_during_set_up_is_heeded_before_the_compilation(world):
    here = world()
    here.stop.signal = "SIGUSR2"
    with pytest.raises(Interrupted, match="SIGUSR2"):
        here.loop(epochs=1).train()
    assert here.compiled == []
    assert len(here.saved) == here.store.waits == 1


def test_a_checkpoint_is_written_when_one_is_due_with_its_pictures(world, caplog):
    caplog.set_level(logging.INFO, "bihm")
    here = world(seconds_a_chunk=10.0)
    here.loop(epochs=6, checkpoint__every_seconds=20.0).train()
    assert [int(latest.step) for latest, *_ in here.saved] == [40, 80, 120]
    assert here.pictures == [(40, 20.0), (80, 40.0), (120, 60.0)]
    assert caplog.messages.count("units in use") == 1  # at the end alone
    assert [memory["seconds"] for *_, memory in here.saved] == [20.0, 40.0, 60.0]
    assert here.saved[-1][2]["stopped_by"] == "epochs"
    assert here.store.waits == 1


def test_time_goes_on_where_the_checkpoint_ended(world):
    first = world(seconds_a_chunk=10.0)
    first.loop(epochs=1).train()
    second = world(seconds_a_chunk=10.0)
    memory = first.saved[-1][2] | {"seconds": 100.0, "stopped_by": ""}
    running = second.loop(Checkpoint(*first.saved[-1][:2], memory), epochs=2)
    running.train()
    assert second.lines[-1]["seconds"] == pytest.approx(110.0)


@pytest.mark.parametrize("where", ["score", "loss"])
def test_what_is_not_finite_ends_the_run_and_is_not_saved(world, where):
    here = world(lambda step: np.nan if where == "score" and step == 40 else step)
    running = here.loop(epochs=4, checkpoint__every_seconds=0.0)
    if where == "loss":
        original = running._evaluate

        def evaluate_then_break():
            original()
            here.loss = np.nan if running.step >= 20 else here.loss

        running._evaluate = evaluate_then_break
    with pytest.raises(NumbersError, match=r"at step 40 is nan|is nan at step 21"):
        running.train()
    assert [int(latest.step) for latest, *_ in here.saved] == [0, 20]
    assert steps(here) == [20]


def test_progress_says_each_step_and_the_best_so_far(world, monkeypatch):
    monkeypatch.setattr(build, "LONGEST_CHUNK", 10)
    here = world()
    here.loop(epochs=2).train()
    best = "best valid log_p_tilde_star 20.000"
    assert here.advanced == [(10, ""), (20, ""), (30, best), (40, best)]


def test_a_line_now_and_then_says_how_it_goes(world):
    here, told = world(seconds_a_chunk=1.5), []
    running = here.loop(epochs=4)
    running.progress = running.progress._replace(line=told.append)
    running.train()
    assert told == [
        "epoch    1  step     20     1.5 s  train log_p_tilde_star 2.000  "
        "valid 20.000  2 log Z -1.00",
        "epoch    3  step     60     4.5 s  train log_p_tilde_star 2.000  "
        "valid 60.000  2 log Z -1.00",
    ]


def test_a_state_that_is_kept_is_not_the_one_that_the_next_chunk_takes():
    tree = {"w": jnp.arange(3.0)}
    copy = loop._copy(tree)
    assert copy["w"] is not tree["w"]
    assert copy["w"].unsafe_buffer_pointer() != tree["w"].unsafe_buffer_pointer()
    np.testing.assert_array_equal(copy["w"], tree["w"])


def test_until_the_first_evaluation_the_best_is_where_the_run_began(world):
    """A copy of it, since the first chunk takes the buffers of its state for its own."""
    here = world()
    here.stop_at_chunk = 1
    running = here.loop(epochs=2)
    began = jax.tree.map(np.array, running.state)
    with pytest.raises(Interrupted):
        running.train()
    latest, best, memory = here.saved[-1]
    assert (int(latest.step), memory["best_score"]) == (20, None)
    jax.tree.map(np.testing.assert_array_equal, best, began)
