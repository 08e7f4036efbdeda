"""Dynamic-HD tiling exactly as the model's own preprocessing does it, for training pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from .model import CROP, GRID, MAX_CROPS, PATCH


@dataclass(frozen=True)
class Plan:
    """How a picture is cut: columns x rows crops, the resized size, and the patches that hold picture."""

    columns: int
    rows: int
    width: int
    height: int
    patch_columns: int
    patch_rows: int

    @property
    def useful_columns(self) -> int:
        """Pooled columns that hold picture."""
        return math.ceil(self.patch_columns / 2)

    @property
    def useful_rows(self) -> int:
        """Pooled rows that hold picture."""
        return math.ceil(self.patch_rows / 2)

    @property
    def tokens(self) -> int:
        """Rows that the picture takes in the prompt."""
        cells = GRID // 2
        return cells * (cells + 1) + 1 + self.useful_rows * (self.useful_columns + 1)


def _grid(width: int, height: int) -> tuple[int, int]:
    columns, rows = math.ceil(width / CROP), math.ceil(height / CROP)
    if columns * rows <= MAX_CROPS:
        return columns, rows
    shapes = {
        (i, j) for n in range(1, MAX_CROPS + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= MAX_CROPS
    }
    best, least = (1, 1), math.inf
    for i, j in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        difference = abs(width / height - i / j)
        if difference < least or (difference == least and width * height > 0.5 * CROP * CROP * i * j):
            best, least = (i, j), difference
    return best


@lru_cache(maxsize=4096)
def plan(width: int, height: int) -> Plan:
    """The tiling of a picture of this size."""
    columns, rows = _grid(width, height)
    target_width, target_height = columns * CROP, rows * CROP
    if target_width / width < target_height / height:
        new = target_width, int(height * (target_width / width))
    else:
        new = int(width * (target_height / height)), target_height
    if min(new) < 10:
        raise ValueError(f"picture of {width}x{height} is too narrow")
    skip_columns = (target_width - new[0]) // PATCH
    skip_rows = (target_height - new[1]) // PATCH
    return Plan(columns, rows, *new, columns * GRID - skip_columns, rows * GRID - skip_rows)


def cut(picture: Image.Image) -> tuple[Plan, Tensor, Tensor]:
    """The picture as crops [1 + n, 3, 112, 112] (the global view first) with their patch masks [1 + n, 8, 8]."""
    layout = plan(*picture.size)
    pixels = np.asarray(picture.convert("RGB").resize((layout.width, layout.height), Image.Resampling.BILINEAR))
    padded = np.full((layout.rows * CROP, layout.columns * CROP, 3), 255, np.uint8)
    padded[: layout.height, : layout.width] = pixels
    tensor = (torch.from_numpy(padded).permute(2, 0, 1).float() / 255 - 0.5) / 0.5
    whole = F.interpolate(tensor[None], size=(CROP, CROP), mode="bicubic", align_corners=False)
    tiles = tensor.view(3, layout.rows, CROP, layout.columns, CROP).permute(1, 3, 0, 2, 4).reshape(-1, 3, CROP, CROP)
    mask = torch.zeros(layout.rows * GRID, layout.columns * GRID, dtype=torch.bool)
    mask[: layout.patch_rows, : layout.patch_columns] = True
    masks = mask.view(layout.rows, GRID, layout.columns, GRID).transpose(1, 2).reshape(-1, GRID, GRID)
    return layout, torch.cat([whole, tiles]), torch.cat([torch.ones(1, GRID, GRID, dtype=torch.bool), masks])
