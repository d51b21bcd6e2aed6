"""Draw samples from a run: restore its best state, sample, and write arrays and a picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from bihm.data import archive
from bihm.errors import ConfigError, disk_refusals
from bihm.machine.family import Report, silent
from bihm.records.pictures import GAP_GREY, Picture, animation, sample_grid
from bihm.records.run_files import place
from bihm.run.load import read_run
from bihm.run.samples.masks import ImageLayout
from bihm.run.samples.sampler import Drawn, Incomplete
from bihm.run.samples.sampling_options import Options
from bihm.run.trained import TrainedMachine

BETWEEN_TRIPLES = 4  # drawn pixels; within one there is a line of one pixel


class SavedSamples(NamedTuple):
    """Samples as `Drawn` has them, how the sampler did (fractions), and the files written."""

    x: np.ndarray
    facts: dict[str, float]
    files: list[Path]


@disk_refusals()
def sample(
    directory: Path,
    options: Options,
    mask: str | None = None,
    split: str | None = None,
    out: str | None = None,
    report: Report = silent,
) -> SavedSamples:
    """Sample the best state of a run and write `samples-<method>.npz` (and `.png` for images) into it,
    or into the file or folder `out`.

    With a `mask`, the observed half of an image or a file of bits, complete rows of a split and write
    `samples-inpaint.npz`: the completed rows `x`, the rows themselves `data`, and `observed`; or
    `samples-best.npz`, with the `score` of each: its estimated log p, or log p~*, in nats. With
    `options.gif` the states of the chain on the way become an animated `.gif` beside it.

    Raises:
        ConfigError: no run there, or options that make no sense for it.
        DataError: data, mask or checkpoint missing or damaged.
        BihmError: the folder cannot be written; that is seen before the work.
    """
    machine = read_run(directory)
    if split is not None and mask is None:
        raise ConfigError("split has no meaning without mask: only inpainting needs data")
    settled = machine.family.settle(options, completing=mask is not None)
    inpaints = mask is not None and settled.method != "best"
    name = f"samples-{'inpaint' if inpaints else settled.method}.npz"
    reads = [machine.config.dataset.path, mask]
    path = place(out, directory / name, ".npz", beside=[".png", ".gif"], reads=reads)
    given = None if mask is None else rows_to_complete(settled, machine, mask, split or "test")
    if settled.gif and machine.layout is None:
        raise ConfigError("gif=true needs image data")
    drawn = machine.family.draw(machine.structure, machine.params, settled, given, report)
    return SavedSamples(drawn.x, drawn.facts, leave_samples(path, drawn, given, machine.layout))


def leave_samples(
    path: Path, drawn: Drawn, given: Incomplete | None, layout: ImageLayout | None
) -> list[Path]:
    """Write samples, and of images a picture of them and of the chain that led there; the files written.

    An animation that is there already goes with other samples than these: it no longer belongs to them.
    """
    arrays = {"x": drawn.x}
    if drawn.scores is not None:
        arrays["score"] = drawn.scores
    if given is not None:
        arrays |= {"data": given.rows, "observed": given.observed.astype(np.uint8)}
    before = path.read_bytes() if path.is_file() else None
    archive.write_npz(path, arrays)
    files, film = [path], path.with_suffix(".gif")
    if layout is not None:
        files.append(path.with_suffix(".png"))
        with archive.whole(files[-1]) as stream:
            stream.write(picture_of(drawn.x, given, layout).png)
    if drawn.frames and layout is not None:
        files.append(film)
        with archive.whole(film) as stream:
            stream.write(animation([picture_of(frame, given, layout) for frame in drawn.frames]))
    elif before is not None and before != path.read_bytes():
        film.unlink(missing_ok=True)
    return files


def rows_to_complete(
    options: Options, machine: TrainedMachine, mask: str, split: str
) -> Incomplete:
    """The rows to complete, the first n of a shuffled split, since some splits are sorted by class."""
    observed = machine.observed(mask, options.n)
    rows = machine.rows(split)
    if options.n > len(rows):
        raise ConfigError(
            f"n={options.n} but {split} has {len(rows)} rows: n={len(rows)} takes all"
        )
    chosen = np.random.default_rng(options.seed).permutation(len(rows))[: options.n]
    return Incomplete(rows[chosen], observed)


def picture_of(x: np.ndarray, given: Incomplete | None, layout: ImageLayout) -> Picture:
    """A grid of samples; for inpainting each tile is the row, what is known of it, and its completion."""
    if given is None:
        return sample_grid(x, layout.shape, layout.column_major)
    known = np.where(given.observed, given.rows, 0.5)
    strips = [layout.images(rows.astype(np.float64)) for rows in (given.rows, known, x)]
    line = np.full((len(x), layout.shape[0], 1), GAP_GREY / 255)
    wide = np.concatenate([strips[0], line, strips[1], line, strips[2]], axis=2)
    flat = wide.reshape(len(x), -1)
    return sample_grid(flat, wide.shape[1:], column_major=False, apart=BETWEEN_TRIPLES)
