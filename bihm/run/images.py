"""What TensorBoard shows of a machine beside its curves, as often as that costs little."""

import time

import numpy as np

from bihm.kernels.spread import local
from bihm.machine.machine import Structure
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.logbook import Logbook
from bihm.records.pictures import sample_grid, weight_grid
from bihm.run.build import Run

SHARE = 0.03  # of a run's time, for what is worth waiting for
TIMES = (
    2.0  # as long as the program of a step does the one of such pictures take to compile, at most
)


# A process compiles a program once, and may train many machines of one shape. Seconds:
_compiling: dict[Structure, float] = {}  # the longest that a step's program took
_whole: dict[Structure, float] = {}  # what the last showing of everything took


class Gallery:
    """The pictures and distributions of one start of a run.

    What needs no program of its own comes with every checkpoint. The rest waits until the run has lasted so
    long that all that was shown, and compiled for it, is less than SHARE of its time: a short run on a
    machine that has never compiled its shapes ends without it.
    """

    def __init__(self, book: Logbook, run: Run) -> None:
        self._book, self._run = book, run
        self._spent = 0.0

    def show(
        self, state: TrainState, rows: np.ndarray, step: int, seconds: float, compiling: float
    ) -> None:
        """Log what there is to see, with `rows` of valid, after so many seconds of the run.

        `compiling` is how long it took to compile a training step.
        """
        began, shape = time.monotonic(), self._run.structure
        _compiling[shape] = max(compiling, _compiling.get(shape, 0.0))
        expected = _whole.get(shape, TIMES * _compiling[shape])
        whole = self._spent + expected <= SHARE * seconds
        self._show(state, rows, step, whole)
        took = time.monotonic() - began
        self._spent += took
        if whole:
            _whole[shape] = took

    def _show(self, state: TrainState, rows: np.ndarray, step: int, whole: bool) -> None:
        run, params = self._run, local(evaluated_params(state))
        parts = (run.keys, run.structure, params, rows, whole)
        found = run.family.distributions(*parts)
        self._book.histograms(step, found.histograms)
        self._book.scalars(step, found.scalars)
        dataset = run.dataset
        if dataset.image_shape is None:
            return
        for image in run.family.pictures(*parts):
            draw = weight_grid if image.weights else sample_grid
            picture = draw(image.rows, dataset.image_shape, dataset.column_major)
            self._book.image(step, image.tag, *picture)
