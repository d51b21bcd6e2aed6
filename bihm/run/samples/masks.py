"""Which pixels inpainting leaves alone: a half of an image, or a file of bits."""

import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bihm import paths
from bihm.config import Config
from bihm.data import archive, entry, files, text
from bihm.errors import ConfigError, DataError
from bihm.run.arguments import numbers

MaskLike = ArrayLike | os.PathLike[str]  # bits, or a word or a file
HALVES = ("left", "right", "top", "bottom")


class ImageLayout(NamedTuple):
    """How a row is an image: (height, width), and whether its columns come one after another."""

    shape: tuple[int, int]
    column_major: bool

    def images(self, rows: np.ndarray) -> np.ndarray:
        """(n, height, width) from (n, visible)."""
        height, width = self.shape
        if self.column_major:
            return rows.reshape(-1, width, height).transpose(0, 2, 1)
        return rows.reshape(-1, height, width)


def layout_of(config: Config) -> ImageLayout | None:
    """How a row of a run's dataset is an image; None where it is none, or nobody said so."""
    dataset = config.dataset
    if dataset.path is None:
        known = entry(dataset.name)
        return (
            None
            if known.image_shape is None
            else ImageLayout(known.image_shape, known.column_major)
        )
    shape = dataset.image_shape
    if shape is None or len(shape) != 2 or math.prod(shape) != dataset.n_features:
        return None
    return ImageLayout((shape[0], shape[1]), column_major=False)


def observed_of(
    mask: MaskLike,
    rows: int,
    width: int,
    layout: ImageLayout | None,
    key: str = "mask",
) -> np.ndarray:
    """A mask as bool (visible,) or (rows, visible), True where observed: a word, a file, or bits.

    `key` is that of the command line which names it.
    """
    if isinstance(mask, str | os.PathLike):
        return observed_pixels(os.fspath(mask), width, layout, key)
    bits = numbers(mask, "mask")
    if bits.shape not in ((width,), (rows, width)):
        raise ConfigError(
            f"mask has shape {bits.shape}; needed are ({width},) or ({rows}, {width})"
        )
    observed = files.check_bits(np.atleast_2d(bits), "mask").astype(bool).reshape(bits.shape)
    check_observed(observed, "mask")
    return observed


def observed_pixels(
    mask: str, width: int, layout: ImageLayout | None, key: str = "mask"
) -> np.ndarray:
    """Turn `mask` into a bool vector, True where a pixel is observed and stays.

    `left`, `right`, `top` and `bottom` name the observed half of an image. Anything else is a file with
    `width` bits in the order of the data's columns: .npy, .npz (one array, or `mask`), .mat, or a text.
    """
    named = f"{key}={mask}"
    observed = _half(mask, named, width, layout) if mask in HALVES else _bits(mask, named, width)
    check_observed(observed, named)
    return observed


def check_observed(observed: np.ndarray, where: str) -> None:
    """Refuse a mask under which all is known, or nothing."""
    if observed.all():
        raise ConfigError(f"{where} observes every pixel: nothing is missing")
    if not observed.any():
        raise ConfigError(f"{where} observes no pixel: nothing is there to go by")


def _half(mask: str, named: str, width: int, layout: ImageLayout | None) -> np.ndarray:
    if layout is None:
        raise ConfigError(f"{named} needs image data; give a file of {width} bits instead")
    height, across = layout.shape
    row, column = np.indices(layout.shape)
    picture = {
        "left": column < across // 2,
        "right": column >= across - across // 2,
        "top": row < height // 2,
        "bottom": row >= height - height // 2,
    }[mask]
    return (picture.T if layout.column_major else picture).reshape(-1)


def _bits(mask: str, named: str, width: int) -> np.ndarray:
    bits = _read_mask(Path(paths.expand(mask)), named, width)
    if bits.size != width or max(bits.shape) != width:
        raise ConfigError(f"{named} has the shape {bits.shape}; this run needs {width} bits")
    if not np.isin(bits, (0, 1)).all():
        raise DataError(f"{mask}: only 0 and 1 are bits of a mask")
    return bits.reshape(-1).astype(bool)


def _read_mask(path: Path, named: str, width: int) -> np.ndarray:
    if not os.path.isfile(path):  # Path.is_file raises on a name that is too long
        raise ConfigError(f"{named} is neither one of {', '.join(HALVES)} nor a file")
    kind = files.ending(path)
    if kind == ".npy":
        return archive.read_npy(path)
    if kind in files.TEXT:
        return text.read(path, size=width).rows
    if kind == ".mat":
        return files.read_parts(path).arrays[0]
    if kind != ".npz":
        known = ", ".join([".npy", ".npz", ".mat", *files.TEXT])
        raise ConfigError(f"{named} must end in one of {known}")
    arrays = archive.read_npz(path)
    if len(arrays) != 1 and "mask" not in arrays:
        raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}; one array is needed")
    return arrays.get("mask", next(iter(arrays.values())))
