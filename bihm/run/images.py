"""Pictures of a machine for TensorBoard: what its family shows."""

import numpy as np

from bihm.kernels.spread import local
from bihm.machine.training_step import TrainState, evaluated_params
from bihm.records.logbook import Logbook
from bihm.records.pictures import sample_grid, weight_grid
from bihm.run.build import Run


def show(book: Logbook, run: Run, state: TrainState, rows: np.ndarray, step: int) -> None:
    """Log the pictures of a machine, with `rows` of valid; nothing where the data are no images."""
    dataset = run.dataset
    if dataset.image_shape is None:
        return
    params = local(evaluated_params(state))
    for image in run.family.pictures(run.keys.pictures, run.structure, params, rows):
        draw = weight_grid if image.weights else sample_grid
        book.image(step, image.tag, *draw(image.rows, dataset.image_shape, dataset.column_major))
