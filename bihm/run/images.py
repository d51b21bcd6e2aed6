"""Pictures of a machine for TensorBoard: what it dreams, and what its lowest weights look like."""

from functools import partial

import numpy as np

from bihm.kernels.compiled import fast_jit
from bihm.machine.machine import Params, Structure, bind
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.logbook import Logbook
from bihm.records.pictures import sample_grid, weight_grid
from bihm.run.build import Run
from bihm.types import Array, PRNGKey

DREAMS = 64


@partial(fast_jit, static_argnames="structure")
def _dream(key: PRNGKey, structure: Structure, params: Params) -> Array:
    return bind(structure, params).sample_p(key, DREAMS)[0]


def show(book: Logbook, run: Run, state: TrainState, step: int) -> None:
    """Log samples of p and the weights of p(x | h_1) as images; nothing where the data are no images."""
    dataset = run.dataset
    if dataset.image_shape is None:
        return
    params = evaluated_params(state)
    x = np.asarray(_dream(run.keys.pictures, run.structure, params))
    dreams = sample_grid(x, dataset.image_shape, dataset.column_major)
    book.image(step, "samples/p", *dreams)
    w = getattr(bind(run.structure, params).p[0], "w", None)  # not every conditional has just one
    if w is not None:
        filters = weight_grid(np.asarray(w[...]), dataset.image_shape, dataset.column_major)
        book.image(step, "weights/p_x_given_h1", *filters)
