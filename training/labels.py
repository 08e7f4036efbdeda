"""What every patch of a tiled picture shows: dense targets for the tower, and content of ideal image rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .domain.scenes import Scene
from .domain.words import COLOUR_NAMES, GLYPHS, SHAPES, SIZES
from .drawing import Word
from .model import CROP, GRID, PATCH

if TYPE_CHECKING:
    from .tiling import Plan

# Channels of a label grid; 0 means nothing there.
SHAPE, COLOUR, SIZE, CENTRE, GLYPH, GLYPH_COVER = range(6)
CLASSES = (1 + len(SHAPES), 1 + len(COLOUR_NAMES), 1 + len(SIZES), 2, 1 + len(GLYPHS), 1 + len(GLYPHS))
_READABLE = 8.0


def _grid_labels(content: Scene | Word | None, sx: float, sy: float, rows: int, columns: int) -> np.ndarray:
    grid = np.zeros((rows, columns, len(CLASSES)), np.int64)
    if isinstance(content, Scene):
        _scene_labels(grid, content, sx, sy)
    elif isinstance(content, Word):
        _word_labels(grid, content, sx, sy)
    return grid


def _cell(value: float, count: int) -> int:
    return min(count - 1, max(0, int(value / PATCH)))


def _scene_labels(grid: np.ndarray, scene: Scene, sx: float, sy: float) -> None:
    rows, columns = grid.shape[:2]
    y = (np.arange(rows)[:, None] + 0.5) * PATCH
    x = (np.arange(columns)[None] + 0.5) * PATCH
    for thing in scene.things:
        inside = ((x - thing.x * sx) / sx) ** 2 + ((y - thing.y * sy) / sy) ** 2 < (0.9 * thing.radius) ** 2
        centre = _cell(thing.y * sy, rows), _cell(thing.x * sx, columns)
        inside[centre] = True
        kind = (1 + SHAPES.index(thing.shape), 1 + COLOUR_NAMES.index(thing.colour), 1 + SIZES.index(thing.size))
        grid[inside, :3] = kind
        grid[centre] = (*kind, 1, 0, 0)


def _word_labels(grid: np.ndarray, word: Word, sx: float, sy: float) -> None:
    rows, columns = grid.shape[:2]
    for glyph, (left, right, top, bottom) in zip(word.text, word.boxes, strict=True):
        if (bottom - top) * sy < _READABLE or (right - left) * sx < 0.4 * _READABLE:
            continue
        kind = 1 + GLYPHS.index(glyph)
        low, high = _cell(top * sy + 3, rows), _cell(bottom * sy - 3, rows)
        first, last = _cell(left * sx + 4, columns), _cell(right * sx - 4, columns)
        grid[low : high + 1, first : last + 1, GLYPH_COVER] = kind
        grid[_cell((top + bottom) / 2 * sy, rows), _cell((left + right) / 2 * sx, columns), GLYPH] = kind


def patch_labels(content: Scene | Word | None, plan: Plan, size: tuple[int, int]) -> np.ndarray:
    """Labels [1 + n, 8, 8, channels] of the crops that ``tiling.cut`` makes of a picture of this content and size."""
    sx, sy = plan.width / size[0], plan.height / size[1]
    whole = _grid_labels(content, sx / plan.columns, sy / plan.rows, GRID, GRID)
    sub = _grid_labels(content, sx, sy, plan.rows * GRID, plan.columns * GRID)
    tiles = sub.reshape(plan.rows, GRID, plan.columns, GRID, -1).swapaxes(1, 2).reshape(-1, GRID, GRID, len(CLASSES))
    return np.concatenate([whole[None], tiles])


assert CROP == GRID * PATCH
