"""The pictures of a run's machine: samples, completions, the chain on its way, weights."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from bihm.errors import ConfigError
from bihm.machine.family import silent
from bihm.machine.machine import parameter_names
from bihm.machine.rules import has_p_star
from bihm.records.pictures import Picture, animation, sample_grid, weight_grid
from bihm.run.sample import picture_of, rows_to_complete
from bihm.run.samples.masks import ImageLayout
from bihm.run.samples.sampler import SWEEPS, Drawn, Options
from bihm.run.trained import TrainedMachine

SAMPLES, CHAINS, COMPLETED = 64, 36, 25
SEED = 0  # that of bihm-sample


FIRST_LAYER = {  # by the parameter's name: what it belongs to, and whether its columns are pixels
    "p.0.w": ("p(x | h1)", True),
    "q.0.w": ("q(h1 | x)", False),
    "g.0.w": ("the map from h1 down to x", True),
    "f.0.w": ("the map from x up to h1", False),
}
MOST_TILES = 100


class Shown(NamedTuple):
    """A picture for the page, as data that an `img` takes."""

    title: str
    caption: str
    data: str
    still: str = ""  # in the place of an animation, where motion is not wanted


def pictures(machine: TrainedMachine) -> Iterator[Shown]:
    """Draw what there is to see; nothing where the data are no images."""
    layout = machine.layout
    if layout is None:
        return
    config = machine.config
    bits, star = machine.family.has_likelihood, has_p_star(config.model.name)
    x = _draw(machine, Options(n=SAMPLES, seed=SEED)).x
    model = "p, drawn from the top layer down" if bits else "the model, refined by inference"
    yield _still("Samples of p" if bits else "Samples", f"{SAMPLES} samples of {model}.", x, layout)
    if star:
        yield from _chain(machine, layout)
    yield _completions(machine, layout)
    yield from _weights(machine, layout)


def _weights(machine: TrainedMachine, layout: ImageLayout) -> Iterator[Shown]:
    """Matrices between x and h_1, one way or the other; not every conditional has just one."""
    arrays = dict(
        zip(parameter_names(machine.params), jax.tree.leaves(machine.params), strict=True)
    )
    for name, (conditional, of_x) in FIRST_LAYER.items():
        w = np.asarray(arrays.get(name, np.zeros(())))
        deterministic = f"{name.removesuffix('w')}u.0" in arrays  # a layer of its own beside w
        if w.ndim != 2 or deterministic:
            continue
        rows = w if of_x else w.T
        picture = weight_grid(rows, layout.shape, layout.column_major, MOST_TILES)
        yield Shown(
            f"Weights of {conditional}",
            f"First-layer weights, one tile for each of {min(len(rows), MOST_TILES)} units of h1: grey is "
            "zero, light is positive, each tile on a scale of its own.",
            _data(picture.png, "png"),
        )


def _chain(machine: TrainedMachine, layout: ImageLayout) -> Iterator[Shown]:
    try:
        drawn = _draw(machine, Options(n=CHAINS, method="chain", seed=SEED, gif=True))
    except ConfigError:  # a machine on which it cannot move
        return
    frames = [sample_grid(frame, *layout) for frame in drawn.frames]
    yield Shown(
        "The chain of p*",
        f"{CHAINS} Markov chains of {SWEEPS} sweeps, from samples of p to samples of p*; "
        f"a proposal for x was taken {100 * drawn.facts['acceptance']:.0f} % of the time.",
        _data(animation(frames), "gif"),
        _data(frames[-1].png, "png"),
    )


def _completions(machine: TrainedMachine, layout: ImageLayout) -> Shown:
    options = machine.family.settle(Options(n=COMPLETED, seed=SEED), completing=True)
    options = options._replace(n=min(COMPLETED, len(machine.rows("test"))))
    given = rows_to_complete(options, machine, "top", "test")
    drawn = machine.family.draw(machine.structure, machine.params, options, given, silent)
    return Shown(
        "Completions",
        f"{options.n} rows of test: the row, its upper half, and that half completed by the model.",
        _data(picture_of(np.clip(drawn.x, 0, 1), given, layout).png, "png"),
    )


def _draw(machine: TrainedMachine, options: Options) -> Drawn:
    settled = machine.family.settle(options, completing=False)
    drawn: Drawn = machine.family.draw(machine.structure, machine.params, settled, None, silent)
    return drawn


def _still(title: str, caption: str, x: np.ndarray, layout: ImageLayout) -> Shown:
    picture: Picture = sample_grid(np.clip(x, 0, 1), *layout)
    return Shown(title, caption, _data(picture.png, "png"))


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
