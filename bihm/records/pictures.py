"""Pictures of binary data and of weights: numpy in, a grey PNG out."""

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Real, UInt8
from PIL import Image

GAP_GREY = 208  # light, yet neither white nor mid grey, so that any tile stands out against it
MID_GREY = 128  # a weight of zero
FRAME_MS = 80  # of an animation
LEGIBLE = 28  # pixels; TensorBoard shows a picture in its own size


class Picture(NamedTuple):
    """An encoded picture and its size in pixels."""

    png: bytes
    height: int
    width: int


def grid(
    images: UInt8[np.ndarray, "tiles height width"],
    columns: int | None = None,
    gap: int = 1,
    scale: int = 1,
) -> Picture:
    """Tiles row by row, as near to a square as they go unless `columns` says otherwise.

    `gap` is the light line around every tile and `scale` the side of one drawn pixel, in pixels
    of the picture. Raises ValueError for no tiles or sizes below one (gap: below zero).
    """
    tiles, height, width = images.shape
    columns = math.ceil(math.sqrt(tiles)) if columns is None else columns
    if min(tiles, height, width, columns, scale) < 1 or gap < 0:
        raise ValueError(f"no picture: {images.shape=}, {columns=}, {gap=}, {scale=}")
    rows = math.ceil(tiles / columns)
    drawn = images.repeat(scale, axis=1).repeat(scale, axis=2)
    down, right = height * scale + gap, width * scale + gap
    canvas = np.full((gap + rows * down, gap + columns * right), GAP_GREY, np.uint8)
    for tile, image in enumerate(drawn):
        top, left = gap + tile // columns * down, gap + tile % columns * right
        canvas[top : top + height * scale, left : left + width * scale] = image
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, format="PNG")
    return Picture(buffer.getvalue(), *canvas.shape)


def sample_grid(
    x: Real[np.ndarray, "tiles visible"],
    image_shape: tuple[int, int],
    column_major: bool,
    apart: int | None = None,
) -> Picture:
    """Samples, data or means in [0, 1] (one is white), one tile a row of `x`.

    `image_shape` is (height, width), and `apart` how many drawn pixels there are between two tiles, where a
    thin line is not enough. Raises ValueError for values outside [0, 1], NaN among them.
    """
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"values from {x.min()} to {x.max()} where [0, 1] is needed")
    grey = np.rint(x * 255.0).astype(np.uint8)
    return _legible_grid(_shaped(grey, image_shape, column_major), apart)


def animation(frames: Sequence[Picture]) -> bytes:
    """An endless animated GIF of pictures of one size, `FRAME_MS` each, the last one for a second."""
    images = [Image.open(io.BytesIO(frame.png)) for frame in frames]
    times = [FRAME_MS] * (len(images) - 1) + [1000]
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=times, loop=0
    )
    return buffer.getvalue()


def weight_grid(
    w: Float[np.ndarray, "units visible"],
    image_shape: tuple[int, int],
    column_major: bool,
    most: int = 100,
) -> Picture:
    """The first `most` units' weights, one tile a unit: zero is mid grey, positive is lighter.

    Each unit is scaled by its own largest magnitude. What is not finite is drawn as zero.
    """
    finite = np.where(np.isfinite(w[:most]), w[:most], 0.0).astype(np.float64)
    largest = np.abs(finite).max(axis=1, keepdims=True, initial=0.0)
    relative = finite / np.where(largest > 0, largest, 1.0)
    grey = np.rint(MID_GREY + (255 - MID_GREY) * relative).astype(np.uint8)
    return _legible_grid(_shaped(grey, image_shape, column_major))


def _shaped(
    rows: UInt8[np.ndarray, "tiles visible"], image_shape: tuple[int, int], column_major: bool
) -> UInt8[np.ndarray, "tiles height width"]:
    height, width = image_shape
    if rows.shape[1] != height * width:
        raise ValueError(f"{rows.shape[1]} values do not fill an image of {height} x {width}")
    if column_major:
        return rows.reshape(-1, width, height).transpose(0, 2, 1)
    return rows.reshape(-1, height, width)


def _legible_grid(
    images: UInt8[np.ndarray, "tiles height width"], apart: int | None = None
) -> Picture:
    scale = math.ceil(LEGIBLE / min(images.shape[1:]))
    return grid(images, gap=2 if apart is None else apart * scale, scale=scale)
