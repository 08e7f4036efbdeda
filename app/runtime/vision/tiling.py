"""From a picture to the crops, masks and positions the vision encoder takes (phi4mm 3.1 to 3.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import MediaError
from app.runtime.vision.resize import resize_bicubic, resize_bilinear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.formats.params import VisionParams

_SMALLEST_SIDE_PX = 10  # the reference refuses pictures that end up thinner
_PADDING_BYTE = 255  # white


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """One picture, ready for the vision encoder.

    Attributes:
        pixels: float32, shape (1 + n_crops, 3, crop, crop), normalised; the global view first,
            then the crops row by row.
        patch_mask: bool, shape (1 + n_crops, p, p): False where a patch is padding only.
        columns: crops side by side.
        rows: crops one above the other.
        kept_columns: pooled 2x2 cells of the stitched picture that are not padding, across.
        kept_rows: the same, down.
    """

    pixels: NDArray[np.float32]
    patch_mask: NDArray[np.bool_]
    columns: int
    rows: int
    kept_columns: int
    kept_rows: int

    @property
    def n_tokens(self) -> int:
        """Rows this picture takes in the language model (phi4mm 3.6)."""
        cells_per_side = self.patch_mask.shape[-1] // 2
        return token_count(cells_per_side, self.kept_columns, self.kept_rows)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture of one size is fitted to crops; lengths in pixels."""

    columns: int
    rows: int
    width: int  # of the resized picture, without padding
    height: int
    padded_width: int
    padded_height: int

    def padding_patches(self, patch_size: int) -> tuple[int, int]:
        """Whole patches of padding at the right and at the bottom; a partly padded patch counts as picture."""
        return (self.padded_width - self.width) // patch_size, (self.padded_height - self.height) // patch_size

    def kept_cells(self, params: VisionParams) -> tuple[int, int]:
        """Pooled cells that hold picture, across and down; a half-valid cell counts."""
        right, bottom = self.padding_patches(params.patch_size)
        columns = self.columns * params.patches_per_side - right
        rows = self.rows * params.patches_per_side - bottom
        return -(-columns // 2), -(-rows // 2)


def tile_image(pixels: NDArray[np.uint8], params: VisionParams) -> Tiles:
    """Fit a picture to a grid of crops and add the global view.

    Args:
        pixels: uint8, shape (height, width, 3), upright RGB.
        params: crop and patch sizes, crop limit, normalisation.

    Raises:
        MediaError: the picture is so elongated that a side would fall below 10 pixels.
    """
    layout = plan_layout(pixels.shape[1], pixels.shape[0], params)
    padded = _pad(resize_bilinear(pixels, layout.width, layout.height), layout)
    kept_columns, kept_rows = layout.kept_cells(params)
    return Tiles(
        pixels=_views(padded, layout, params),
        patch_mask=_patch_mask(layout, params),
        columns=layout.columns,
        rows=layout.rows,
        kept_columns=kept_columns,
        kept_rows=kept_rows,
    )


def image_token_count(width: int, height: int, params: VisionParams) -> int:
    """Rows a picture of ``width`` x ``height`` pixels takes in the language model, without touching pixels.

    Raises:
        MediaError: as :func:`tile_image`.
    """
    columns, rows = plan_layout(width, height, params).kept_cells(params)
    return token_count(params.patches_per_side // 2, columns, rows)


def token_count(cells_per_side: int, kept_columns: int, kept_rows: int) -> int:
    """Sub image with a separator per row, the separator between, and the global view likewise (phi4mm 3.6)."""
    return kept_rows * (kept_columns + 1) + 1 + cells_per_side * (cells_per_side + 1)


def plan_layout(width: int, height: int, params: VisionParams) -> Layout:
    """Choose the grid of crops and the size of the picture in it (phi4mm 3.1, steps 1 to 5).

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        params: crop size and crop limit.

    Raises:
        MediaError: a side of the fitted picture is below 10 pixels.
    """
    columns, rows = _grid(width, height, params)
    full_width, full_height = columns * params.crop_size, rows * params.crop_size
    across, down = full_width / width, full_height / height
    if across < down:
        fitted_width, fitted_height = full_width, int(height * across)
    else:
        fitted_width, fitted_height = int(width * down), full_height
    if min(fitted_width, fitted_height) < _SMALLEST_SIDE_PX:
        raise MediaError(
            f"a picture of {width}x{height} pixels is too elongated: it would be shrunk to "
            f"{fitted_width}x{fitted_height}; crop it to a less extreme shape"
        )
    return Layout(columns, rows, fitted_width, fitted_height, full_width, full_height)


def _grid(width: int, height: int, params: VisionParams) -> tuple[int, int]:
    columns, rows = math.ceil(width / params.crop_size), math.ceil(height / params.crop_size)
    if columns * rows <= params.max_crops:
        return columns, rows
    return _closest_grid(width, height, params)


def _closest_grid(width: int, height: int, params: VisionParams) -> tuple[int, int]:
    aspect, area = width / height, width * height
    best, best_difference = (1, 1), math.inf
    for columns, rows in _grids(params.max_crops):
        difference = abs(aspect - columns / rows)
        fills_half = area > 0.5 * params.crop_size * params.crop_size * columns * rows
        if difference < best_difference or (difference == best_difference and fills_half):
            best, best_difference = (columns, rows), difference
    return best


@lru_cache(maxsize=8)
def _grids(max_crops: int) -> list[tuple[int, int]]:
    """All (columns, rows) of at most ``max_crops``, by their product.

    Among equal products the order is that of a Python set built in this very order, because the
    reference lets it decide exact ties; a tidier construction would order them differently.
    """
    grids = {
        (columns, rows)
        for n in range(1, max_crops + 1)
        for columns in range(1, n + 1)
        for rows in range(1, n + 1)
        if columns * rows <= max_crops
    }
    return sorted(grids, key=lambda grid: grid[0] * grid[1])


def _pad(pixels: NDArray[np.uint8], layout: Layout) -> NDArray[np.uint8]:
    right, bottom = layout.padded_width - layout.width, layout.padded_height - layout.height
    return np.pad(pixels, ((0, bottom), (0, right), (0, 0)), constant_values=_PADDING_BYTE)


def _views(padded: NDArray[np.uint8], layout: Layout, params: VisionParams) -> NDArray[np.float32]:
    """Normalise and cut; shape (1 + n_crops, 3, crop, crop)."""
    crop = params.crop_size
    views = np.empty((1 + layout.columns * layout.rows, 3, crop, crop), np.float32)
    planes = np.empty((3, *padded.shape[:2]), np.float32)
    levels = _levels(params.pixel_mean, params.pixel_std)
    for channel in range(3):
        np.take(levels, padded[:, :, channel], out=planes[channel])
    views[0] = resize_bicubic(planes, crop, crop)
    grid = planes.reshape(3, layout.rows, crop, layout.columns, crop)
    crops = views[1:].reshape(layout.rows, layout.columns, 3, crop, crop)
    crops[:] = grid.transpose(1, 3, 0, 2, 4)
    return views


def _levels(mean: float, std: float) -> NDArray[np.float32]:
    """The normalised value of each byte, in the reference's float32 steps."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    return (scaled - np.float32(mean)) / np.float32(std)


def _patch_mask(layout: Layout, params: VisionParams) -> NDArray[np.bool_]:
    side = params.patches_per_side
    right, bottom = layout.padding_patches(params.patch_size)
    whole = np.ones((layout.rows * side, layout.columns * side), np.bool_)
    whole[whole.shape[0] - bottom :] = False
    whole[:, whole.shape[1] - right :] = False
    crops = whole.reshape(layout.rows, side, layout.columns, side).transpose(0, 2, 1, 3)
    return np.concatenate([np.ones((1, side, side), np.bool_), crops.reshape(-1, side, side)])


def position_ids(patch_mask: NDArray[np.bool_], position_grid: int) -> NDArray[np.int32]:
    """Rows of the position table for the patches of one crop (phi4mm 3.3).

    A padded crop has its picture part stretched over the whole table. The integer formula is
    what the reference's comparison of float fractions means and, for its grid of 32, gives.

    Args:
        patch_mask: bool, shape (p, p): the picture part is a rectangle at the top left.
        position_grid: side of the table.

    Returns:
        int32, shape (p * p,), row by row; 0 for padding.
    """
    side = patch_mask.shape[0]
    n_rows, n_columns = max(1, int(patch_mask[:, 0].sum())), max(1, int(patch_mask[0].sum()))
    steps = np.arange(side, dtype=np.int32) * position_grid
    ids = (steps // n_rows)[:, None] * position_grid + (steps // n_columns)[None, :]
    return np.where(patch_mask, ids, 0).astype(np.int32).reshape(-1)
