from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from app.common.errors import MediaError
from app.runtime.vision.resize import resize_bicubic
from app.runtime.vision.tiling import image_token_count, plan_layout, position_ids, tile_image

# phi4mm 3.6: width, height, columns, rows, resized width and height, kept columns and rows, tokens
TABLE = [
    (448, 448, 1, 1, 448, 448, 16, 16, 545),
    (336, 336, 1, 1, 448, 448, 16, 16, 545),
    (224, 224, 1, 1, 448, 448, 16, 16, 545),
    (512, 512, 2, 2, 896, 896, 32, 32, 1329),
    (449, 448, 2, 1, 449, 448, 17, 16, 561),
    (640, 480, 2, 2, 896, 672, 32, 24, 1065),
    (800, 600, 2, 2, 896, 672, 32, 24, 1065),
    (1024, 768, 3, 2, 1194, 896, 43, 32, 1681),
    (1280, 720, 3, 2, 1344, 756, 48, 27, 1596),
    (1344, 896, 3, 2, 1344, 896, 48, 32, 1841),
    (896, 1344, 2, 3, 896, 1344, 32, 48, 1857),
    (1920, 1080, 5, 3, 2240, 1260, 80, 45, 3918),
    (1080, 1920, 3, 5, 1260, 2240, 45, 80, 3953),
    (2480, 3508, 5, 7, 2217, 3136, 80, 112, 9345),
    (3840, 2160, 7, 4, 3136, 1764, 112, 63, 7392),
    (4032, 3024, 4, 3, 1792, 1344, 64, 48, 3393),
    (2688, 2688, 6, 6, 2688, 2688, 96, 96, 9585),
    (8000, 8000, 6, 6, 2688, 2688, 96, 96, 9585),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}x{row[1]}")
def test_layout_and_tokens_follow_the_table_of_the_reference(row, make_params):
    width, height, columns, rows, fitted_width, fitted_height, kept_columns, kept_rows, n_tokens = row
    params = make_params()
    layout = plan_layout(width, height, params)
    assert (layout.columns, layout.rows, layout.width, layout.height) == (columns, rows, fitted_width, fitted_height)
    assert layout.kept_cells(params) == (kept_columns, kept_rows)
    assert image_token_count(width, height, params) == n_tokens


@pytest.mark.parametrize(("width", "height"), [(70, 40), (33, 200), (300, 300), (20, 14), (1, 1)])
def test_tiles_agree_with_the_layout(width, height, make_params):
    params = make_params(crop_size=56, position_grid=4, max_crops=5)
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tiles = tile_image(pixels, params)
    n_crops = tiles.columns * tiles.rows
    assert tiles.pixels.shape == (1 + n_crops, 3, 56, 56)
    assert tiles.patch_mask.shape == (1 + n_crops, 4, 4)
    assert tiles.n_tokens == image_token_count(width, height, params)
    assert tiles.n_tokens == tiles.kept_rows * (tiles.kept_columns + 1) + 1 + 2 * 3
    assert tiles.patch_mask[0].all()


def test_crops_hold_the_resized_picture_then_white(make_params):
    params = make_params(crop_size=56, position_grid=4, max_crops=6, pixel_mean=0.45, pixel_std=0.27)
    pixels = np.random.default_rng(2).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    tiles = tile_image(pixels, params)
    assert (tiles.columns, tiles.rows) == (2, 2)
    fitted = np.asarray(PillowImage.fromarray(pixels).resize((112, 67), PillowImage.Resampling.BILINEAR))
    whole = np.full((112, 112, 3), 255, np.uint8)
    whole[:67] = fitted
    expected = ((whole / 255 - 0.45) / 0.27).transpose(2, 0, 1)
    stitched = tiles.pixels[1:].reshape(2, 2, 3, 56, 56).transpose(2, 0, 3, 1, 4).reshape(3, 112, 112)
    np.testing.assert_allclose(stitched, expected, atol=1e-6)
    np.testing.assert_allclose(tiles.pixels[0], resize_bicubic(expected.astype(np.float32), 56, 56), atol=1e-6)


def test_only_whole_patches_of_padding_are_masked(make_params):
    params = make_params(crop_size=56, position_grid=4, max_crops=6)
    tiles = tile_image(np.zeros((60, 100, 3), np.uint8), params)  # 45 rows of padding: 3 patches and a bit
    stitched = tiles.patch_mask[1:].reshape(2, 2, 4, 4).transpose(0, 2, 1, 3).reshape(8, 8)
    assert stitched[:5].all()
    assert not stitched[5:].any()
    assert (tiles.kept_columns, tiles.kept_rows) == (4, 3)  # the half-valid cell counts


def test_global_view_of_a_single_crop_is_the_crop(make_params):
    pixels = np.random.default_rng(3).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    tiles = tile_image(pixels, make_params())
    assert np.array_equal(tiles.pixels[0], tiles.pixels[1])


@pytest.mark.parametrize(
    ("width", "height", "max_crops", "grid"),
    [
        (500, 500, 1, (1, 1)),
        (2688, 2688, 16, (4, 4)),  # the tie 1x1, 2x2, ... goes to the largest the area fills by half
        (3000, 1000, 4, (3, 1)),
        (1000, 3000, 4, (1, 3)),
        (4032, 3024, 36, (4, 3)),
    ],
)
def test_too_large_pictures_take_the_closest_grid(width, height, max_crops, grid, make_params):
    layout = plan_layout(width, height, make_params(max_crops=max_crops))
    assert (layout.columns, layout.rows) == grid


@pytest.mark.parametrize(("width", "height"), [(1, 20000), (20000, 1), (10, 20000)])
def test_extreme_shapes_are_refused_with_their_size(width, height, make_params):
    with pytest.raises(MediaError, match=f"{width}x{height} pixels is too elongated"):
        plan_layout(width, height, make_params())


def test_positions_of_a_full_crop_count_through():
    assert np.array_equal(position_ids(np.ones((32, 32), np.bool_), 32), np.arange(1024))


def test_positions_of_a_padded_crop_are_stretched_over_the_table():
    mask = np.zeros((32, 32), np.bool_)
    mask[:17, :5] = True
    ids = position_ids(mask, 32).reshape(32, 32)
    for r in range(17):
        for c in range(5):
            assert ids[r, c] == (32 * r // 17) * 32 + 32 * c // 5
    assert not ids[17:].any()
    assert not ids[:, 5:].any()


def test_positions_of_a_crop_of_padding_only_are_zero():
    assert not position_ids(np.zeros((4, 4), np.bool_), 8).any()
