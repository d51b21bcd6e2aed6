"""The training loop: compiled chunks, and between them a look at the numbers, the clock and signals."""

import logging
import time
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bihm.errors import Interrupted
from bihm.kernels.together import on_device_once
from bihm.machine.likelihood import check_meaning
from bihm.machine.machine import Params
from bihm.machine.optimizer import Rates
from bihm.machine.training_step import (
    Chunk,
    TrainState,
    evaluated_params,
    make_chunk,
    with_evaluated,
)
from bihm.records.checkpoint import Checkpoint, Checkpoints
from bihm.records.logbook import Logbook
from bihm.records.progress import Progress
from bihm.records.results import number
from bihm.run.build import Phase, Run, phases
from bihm.run.training import images
from bihm.run.training.processes import Agreement, are_several, from_first
from bihm.run.training.step_sums import StepSums
from bihm.run.training.stopping import Memory, Stopping
from bihm.signals import StopRequest

log = logging.getLogger("bihm")
SECONDS_BETWEEN_LINES = 2.0

# The jobs of a sweep run in one process, and most need the same program: it is traced and compiled once.
_kept_chunk = lru_cache(maxsize=4)(make_chunk)
_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))  # one dispatch for all arrays


class TrainingLoop:
    """One run from its first step, or from its last checkpoint, to the state that does best on valid."""

    def __init__(
        self,
        run: Run,
        book: Logbook,
        checkpoints: Checkpoints,
        progress: Progress,
        stop: StopRequest,
        start: Checkpoint,
    ):
        self.run, self.book, self.checkpoints = run, book, checkpoints
        self.progress, self.stop = progress, stop
        self.rows = run.on_devices(on_device_once(run.dataset.train))
        self.key = run.on_devices(run.keys.train)
        self.valid_rows = run.fixed_rows("valid")
        self.stopping = Stopping.of(run, self.valid_rows)
        self.memory = Memory(**start.memory)
        self.memory.eval_every = self.memory.eval_every or run.eval_every
        self.state = run.on_devices(start.latest)
        # A copy: a chunk takes the buffers of `state` for its own.
        self.best: TrainState = _copy(run.on_devices(start.best))
        self.step = int(self.state.step)  # known here, so that asking does not wait for the device
        self.sums = StepSums(run.params, self.memory.totals, self.memory.steps, run.family.limits)
        self._began = time.monotonic() - self.memory.seconds
        self.others = Agreement(run.mesh, self.memory.seconds) if are_several() else None
        self._saved = self._seconds()
        self._told = -SECONDS_BETWEEN_LINES
        self._gallery = images.Gallery(book, run, self.memory.seconds)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.run.plan.steps_per_epoch

    def train(self) -> TrainState:
        """Train until something ends the run, and return the best state.

        A signal is heeded after the chunk, the tile of an estimate or the compilation that is under way.

        Raises:
            NumbersError: a loss or a gradient was not finite, or no state is better than broken ones;
                the checkpoint before it stays.
            Interrupted: a signal came, and a checkpoint was written.
        """
        plans = phases(self.run.config)
        if self.stopping.may_go_on(self.memory, self.step):
            self.memory.stopped_by = ""
        while not self.memory.stopped_by:
            ended_by = self._phase(plans[self.memory.phase])
            if ended_by == "max_seconds" or self.memory.phase + 1 == len(plans):
                self.memory.stopped_by = ended_by
            else:
                self._next_phase()
        self.save()
        if words := self._show_pictures():
            log.info("%s", words)
        self.checkpoints.wait()
        self.stopping.check_end(self.memory)
        return self.best

    def _next_phase(self) -> None:
        self.memory.phase += 1
        self.memory.phase_step = self.step
        # A phase that ran out of patience has gone astray since its best: go on from there.
        step = self.run.on_devices(jnp.asarray(self.step, jnp.int32))
        self.state = _copy(self.best)._replace(step=step)

    def _phase(self, phase: Phase) -> str:
        """Train with one K and one schedule; return what ended it."""
        per_epoch = self.run.plan.steps_per_epoch
        self.heed_signals()  # compilation, which follows, takes the longest
        chunk = self._compile(phase.K)
        optim, first = self.run.config.optim, self.memory.phase_step
        rate = (phase.lr, phase.lr_end, first, phase.epochs * per_epoch)
        rates = self.run.on_devices(Rates.of(*rate, optim.l1, optim.l2))
        while True:
            done, within = divmod(self.step - self.memory.phase_step, per_epoch)
            last = done == phase.epochs
            if within == 0 and done > 0 and (last or done % self.memory.eval_every == 0):
                self._evaluate()
                if self.stopping.out_of_patience(self.memory, self.step):
                    return "patience"
            if last:
                return "epochs"
            self._save_if_due()
            if not self._finish_epoch(chunk, rates):
                self._evaluate()
                return "max_seconds"

    def _compile(self, K: int) -> Chunk:
        run = self.run
        return _kept_chunk(
            run.structure,
            run.family.rule(K, run.plan.steps_per_epoch),
            run.optimizer,
            run.plan,
            batch_size=run.config.batch_size,
            grey=run.dataset.grey,
            precision=run.config.precision,
            see=run.family.see,
            softened=run.config.optim.soften,
            mesh=run.mesh,
        )

    def _finish_epoch(self, chunk: Chunk, rates: Rates) -> bool:
        """Do the chunks that are left of this epoch; False when the time is up."""
        plan, limit = self.run.plan, self.run.config.max_seconds
        for _ in range(self.step % plan.steps_per_epoch // plan.length, plan.chunks):
            began = time.monotonic()
            self.state, info = chunk(self.state, self.key, self.rows, rates)
            self._gallery.note_call(time.monotonic() - began)
            self.checkpoints.prepare()
            self.sums.add(self.step, info)
            self.step += plan.length
            self.progress.advance(self.step, self._best_text())
            self.heed_signals()
            if limit is not None and self._seconds() > limit:
                return False
        return True

    def _evaluate(self) -> None:
        """Estimate on valid what the family estimates, log it, and remember the best state."""
        if self.memory.evaluated_step == self.step:
            return
        run = self.run
        before, report = evaluated_params(self.state), self.heed_signals
        params = run.family.fit(run.structure, before, run.dataset.train, run.dataset.grey, report)
        scalars = run.family.estimate(
            run.keys, run.structure, params, self.valid_rows, self.heed_signals
        )
        scalars |= self.sums.take()  # not before: whoever stops in an estimate comes back to it
        for name, leaf in zip(self.sums.parameter_names, jax.tree.leaves(params), strict=True):
            scalars[f"weight_norm/{name}"] = float(np.linalg.norm(np.asarray(leaf, np.float64)))
        for name in (run.score, "two_log_z"):
            check_meaning(f"valid/{name} at step {self.step}", scalars.get(f"valid/{name}", 0.0))
        self._remember(from_first(scalars[f"valid/{run.score}"]), params)
        self.memory.evaluated_step = self.step
        self._gallery.lay_out(scalars)
        epochs = self.step / run.plan.steps_per_epoch
        self.book.evaluation(self.step, epochs, self._seconds(), scalars)
        self._tell(scalars)

    def _remember(self, score: float, params: Params) -> None:
        if self.memory.best_score is None or score > self.memory.best_score:
            self.memory.best_score, self.memory.best_epoch = score, self.epoch
            self.best = _copy(with_evaluated(self.state, params))

    def heed_signals(self, *_: int) -> None:
        """Save and stop if a signal asked for it; between two tiles of an estimate as well.

        Raises:
            Interrupted: it did.
        """
        signal = self.stop.signal
        if self.others is not None:
            self.others.ask(signal, time.monotonic() - self._began)
            signal = self.others.signal
        if signal is not None:
            self.save()
            self.checkpoints.wait()
            raise Interrupted(signal)

    def _save_if_due(self) -> None:
        if self._seconds() - self._saved >= self.run.config.checkpoint.every_seconds:
            self.save()
            self._show_pictures()

    def save(self) -> None:
        """Start to write a checkpoint of this moment; `checkpoints.wait` returns when it is there."""
        self.sums.settle()  # a state that followed from a NaN must not replace a good one
        self.memory.seconds = self._seconds()
        self.memory.totals, self.memory.steps = self.sums.totals, self.sums.steps
        memory: dict[str, Any] = asdict(self.memory)
        self.checkpoints.save(Checkpoint(self.state, self.best, memory))
        self._saved = self._seconds()

    def _show_pictures(self) -> str:
        """As often as there is a checkpoint; who is asked to stop has no time for them."""
        if self.memory.best_score is None:
            return ""  # an estimate's program is not there, either
        return self._gallery.show(self.best, self.valid_rows, self.step, self._seconds())

    def _seconds(self) -> float:
        """Since the run first began; of several processes, what the first one told last."""
        return time.monotonic() - self._began if self.others is None else self.others.seconds

    def _best_text(self) -> str:
        best = self.memory.best_score
        return "" if best is None else f"best valid {self.run.score} {number(best)}"

    def _tell(self, scalars: dict[str, float]) -> None:
        """Say how it goes, though not more often than a person can read."""
        if self._seconds() - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = self._seconds()
        name, train = self.run.score, ""
        if f"train/{name}" in scalars:  # not every score is one of each step
            train = f"train {name} {number(scalars[f'train/{name}'])}  "
        line = (
            f"epoch {self.epoch:4d}  step {self.step:6d}  {self._told:6.1f} s  "
            f"{train}valid {number(scalars[f'valid/{name}'])}"
        )
        if "valid/two_log_z" in scalars:
            line += f"  2 log Z {scalars['valid/two_log_z']:.2f}"
        self.progress.line(line)
