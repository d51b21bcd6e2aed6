"""Pictures, read back by pillow and compared pixel by pixel."""

import io

import numpy as np
import pytest
from PIL import Image

from bihm.records import pictures


def pixels(picture: pictures.Picture) -> np.ndarray:
    image = Image.open(io.BytesIO(picture.png))
    assert (image.format, image.mode) == ("PNG", "L")
    assert image.size == (picture.width, picture.height)
    return np.asarray(image)


def test_grid_places_every_tile_between_light_lines():
    images = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    seen = pixels(pictures.grid(images, columns=2, gap=1, scale=2))
    assert seen.shape == (3 * (4 + 1) + 1, 2 * (6 + 1) + 1)
    expected = np.full(seen.shape, pictures.GAP_GREY, np.uint8)
    for tile in range(5):
        for y in range(4):
            for x in range(6):
                row, column = 1 + tile // 2 * 5 + y, 1 + tile % 2 * 7 + x
                expected[row, column] = images[tile, y // 2, x // 2]
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize(("tiles", "rows", "columns"), [(1, 1, 1), (5, 2, 3), (9, 3, 3), (7, 3, 3)])
def test_grid_is_nearly_square(tiles, rows, columns):
    picture = pictures.grid(np.zeros((tiles, 2, 3), np.uint8), gap=0)
    assert (picture.height, picture.width) == (rows * 2, columns * 3)


@pytest.mark.parametrize(
    ("shape", "options"),
    [((0, 2, 3), {}), ((2, 0, 3), {}), ((2, 2, 3), {"columns": 0}), ((2, 2, 3), {"scale": 0})],
)
def test_grid_refuses_what_has_no_picture(shape, options):
    with pytest.raises(ValueError, match="no picture"):
        pictures.grid(np.zeros(shape, np.uint8), **options)


@pytest.mark.parametrize("column_major", [False, True])
def test_sample_grid_lays_out_rows_or_columns(column_major):
    image = np.array([[0, 1, 0], [1, 1, 0]], np.float32)
    flat = image.flatten(order="F" if column_major else "C")
    seen = pixels(pictures.sample_grid(flat[None], (2, 3), column_major))
    scale = 14  # 28 pixels for the shorter side of two
    np.testing.assert_array_equal(seen[2:-2:scale, 2:-2:scale], image * 255)


def test_sample_grid_draws_means_and_bytes():
    means = pixels(pictures.sample_grid(np.full((1, 6), 0.2), (2, 3), False))
    assert means[5, 5] == 51
    ones = pixels(pictures.sample_grid(np.ones((1, 6), np.uint8), (2, 3), False))
    assert ones[5, 5] == 255


@pytest.mark.parametrize("bad", [1.01, -0.01, np.nan])
def test_sample_grid_refuses_what_is_no_mean(bad):
    x = np.array([[0.0, bad, 0, 0, 0, 0]])
    with pytest.raises(ValueError, match="is needed"):
        pictures.sample_grid(x, (2, 3), False)


def test_wrong_image_shape_is_named():
    with pytest.raises(ValueError, match="6 values do not fill an image of 2 x 4"):
        pictures.sample_grid(np.zeros((1, 6)), (2, 4), False)


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (16, 8), (1, 40)])
def test_tiles_are_legible(shape):
    picture = pictures.sample_grid(np.zeros((1, shape[0] * shape[1])), shape, False)
    assert min(picture.height, picture.width) - 4 >= 28


def test_weight_grid_scales_each_unit_by_its_own_largest():
    w = np.array([[0, 1, -1, 0.5, 0, 0], [0, 0, 0, 0, 0, 0], [-40, 20, 0, 0, 0, 0]], np.float32)
    seen = pixels(pictures.weight_grid(w, (2, 3), False))
    step, tile_height, tile_width = 14, 28 + 2, 42 + 2
    tiles = [seen[:, :tile_width], seen[:, tile_width:], seen[tile_height:, :tile_width]]
    drawn = [tile[2 : 2 + 28 : step, 2 : 2 + 42 : step].flatten().tolist() for tile in tiles]
    mid = pictures.MID_GREY
    assert drawn[0] == [mid, 255, 1, 192, mid, mid]  # 128 + 127 * 0.5 = 191.5, to even
    assert drawn[1] == [mid] * 6
    assert drawn[2] == [1, 192, mid, mid, mid, mid]


def test_weight_grid_survives_broken_and_tiny_weights():
    w = np.array([[np.nan, np.inf, 1, 0, 0, 0], [1e-45, 0, 0, 0, 0, 0]], np.float32)
    seen = pixels(pictures.weight_grid(w, (2, 3), False))
    assert seen[2, 2:44:14].tolist() == [pictures.MID_GREY, pictures.MID_GREY, 255]
    assert seen[2, 46] == 255


def test_weight_grid_shows_at_most_so_many():
    w = np.ones((7, 6), np.float32)
    picture = pictures.weight_grid(w, (2, 3), True, most=4)
    assert (picture.height, picture.width) == (2 * 30 + 2, 2 * 44 + 2)
