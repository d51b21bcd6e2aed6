"""What TensorBoard shows of a machine beside its curves, as often as that costs little."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from bihm.kernels.spread import local, mesh_of
from bihm.machine.machine import Structure
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.logbook import Logbook
from bihm.records.pictures import sample_grid, weight_grid
from bihm.run.build import Run

SHARE = 0.03  # of a run's time, for what is worth waiting for
# What has a program of its own, and how long that takes to compile, in times a step's program.
TIMES = {"layers": 0.3, "chains": 1.5}

# A process compiles a program once, and may train many machines of one shape. Seconds:
_compiling: dict[Structure, float] = {}  # the longest that a step's program took
_last: dict[tuple[str, Structure], float] = {}  # what the last showing of all of a kind took


class Gallery:
    """The pictures and distributions of one start of a run.

    What is quickly compiled comes with every checkpoint. The rest, first what each layer does and
    then what takes a chain, waits until the run has lasted so long that all that was shown, and compiled
    for it, is less than SHARE of its time: a short run on a machine that has never compiled its shapes ends
    without it. What counts is the time since this start, which alone knows what it has spent.
    """

    def __init__(self, book: Logbook, run: Run, began: float) -> None:
        self._book, self._run = book, run
        self._began = began  # seconds that earlier starts of the run had lasted
        self._spent = 0.0
        self._called = self._laid_out = False

    def note_call(self, seconds: float) -> None:
        """Be told how long a chunk's call took: the first one returns when its program is there."""
        if not self._called:
            self._called, shape = True, self._run.structure
            _compiling[shape] = max(seconds, _compiling.get(shape, 0.0))

    def lay_out(self, names: Iterable[str]) -> None:
        """Write once which scalars, of those with these names and of ours, make a chart."""
        if not self._laid_out:
            self._laid_out = True
            by_layer = ["kl/h1", "units_in_use/h1"] if self._run.family.has_likelihood else []
            self._book.layout([*names, *by_layer])

    def show(self, state: TrainState, rows: np.ndarray, step: int, seconds: float) -> str:
        """Log what there is to see, with `rows` of valid, after so many seconds; return it in words."""
        with self._budget("layers", seconds) as whole:
            words = self._distributions(state, rows, step, whole)
        with self._budget("chains", seconds) as whole:
            self._pictures(state, rows, step, whole)
        return words

    @contextmanager
    def _budget(self, kind: str, seconds: float) -> Iterator[bool]:
        """Whether a run of so many seconds can afford all of a kind; what then is done is its expense."""
        began, shape = time.monotonic(), self._run.structure
        last = _last.get((kind, shape))
        expected = TIMES[kind] * _compiling.get(shape, 0.0) if last is None else last
        # Once compiled, the look at the layers takes milliseconds.
        free = kind == "layers" and last is not None
        whole = free or self._spent + expected <= SHARE * (seconds - self._began)
        yield whole
        took = time.monotonic() - began
        self._spent += took
        if whole:
            _last[kind, shape] = took

    def _distributions(self, state: TrainState, rows: np.ndarray, step: int, whole: bool) -> str:
        run, params = self._run, evaluated_params(state)
        compiled = mesh_of(params) is None  # estimates on several devices have another program
        if not (whole or compiled):
            return ""
        found = run.family.distributions(run.keys, run.structure, local(params), rows, whole)
        self._book.histograms(step, found.histograms)
        self._book.scalars(step, found.scalars)
        return found.words

    def _pictures(self, state: TrainState, rows: np.ndarray, step: int, whole: bool) -> None:
        run, shape = self._run, self._run.dataset.image_shape
        if shape is None:
            return
        params = local(evaluated_params(state))
        for image in run.family.pictures(run.keys, run.structure, params, rows, whole):
            draw = weight_grid if image.weights else sample_grid
            picture = draw(image.rows, shape, run.dataset.column_major)
            self._book.image(step, image.tag, *picture)
