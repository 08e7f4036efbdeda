"""A picture file to crops and masks, as the published processor makes them (phi4mm 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from pathlib import Path

    from app.validation.reference.settings import Vision

MIN_SIDE_PX = 10


@dataclass(frozen=True, slots=True)
class Crops:
    """``pixels`` (1 + rows * columns, 3, crop, crop), global view first; ``masks`` bool (same, p, p) of patches."""

    pixels: torch.Tensor
    masks: torch.Tensor
    columns: int
    rows: int


def load_crops(path: Path | str, settings: Vision) -> Crops:
    """Decode, upright and cut one picture file."""
    with Image.open(path) as file:
        return cut(ImageOps.exif_transpose(file).convert("RGB"), settings)


def cut(image: Image.Image, settings: Vision) -> Crops:
    """Cut a decoded picture into the global view and its crops."""
    columns, rows = tile_grid(image.width, image.height, settings)
    size, (pad_right, pad_bottom) = fitted(image.width, image.height, columns * settings.crop, rows * settings.crop)
    if min(size) < MIN_SIDE_PX:
        raise ValueError(f"a side of {size} is too short to be a picture")
    resized = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    canvas = np.pad(resized, ((0, pad_bottom), (0, pad_right), (0, 0)), constant_values=255)
    scaled = (torch.from_numpy(canvas).permute(2, 0, 1).to(torch.float32) / 255 - 0.5) / 0.5
    mask = patch_mask(columns, rows, pad_right, pad_bottom, settings)
    whole = torch.nn.functional.interpolate(
        scaled[None], (settings.crop, settings.crop), mode="bicubic", align_corners=False
    )
    pixels = torch.cat([whole, _split(scaled, settings.crop)])
    masks = torch.cat(
        [
            torch.ones_like(mask[None, : mask.shape[0] // rows, : mask.shape[1] // columns]),
            _split(mask[None], mask.shape[0] // rows)[:, 0],
        ]
    )
    return Crops(pixels, masks, columns, rows)


def tile_grid(width: int, height: int, settings: Vision) -> tuple[int, int]:
    """Columns and rows of crops."""
    columns, rows = math.ceil(width / settings.crop), math.ceil(height / settings.crop)
    if columns * rows <= settings.max_crops:
        return columns, rows
    return _closest_grid(width, height, settings)


def _closest_grid(width: int, height: int, settings: Vision) -> tuple[int, int]:
    limit = settings.max_crops
    # A set, then a stable sort, as published: the order of equal products is that of the set.
    grids = {(i, j) for n in range(1, limit + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= limit}
    best, best_difference = (1, 1), math.inf
    for i, j in sorted(grids, key=math.prod):
        difference = abs(width / height - i / j)
        large = width * height > 0.5 * settings.crop * settings.crop * i * j
        if difference < best_difference or (difference == best_difference and large):
            best, best_difference = (i, j), difference
    return best


def fitted(width: int, height: int, target_width: int, target_height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """``((new_width, new_height), (pad_right, pad_bottom))`` of a picture scaled into the target."""
    ratio_width, ratio_height = target_width / width, target_height / height
    if ratio_width < ratio_height:
        new_height = int(height * ratio_width)
        return (target_width, new_height), (0, target_height - new_height)
    new_width = int(width * ratio_height)
    return (new_width, target_height), (target_width - new_width, 0)


def patch_mask(columns: int, rows: int, pad_right: int, pad_bottom: int, settings: Vision) -> torch.Tensor:
    """Bool mask (rows * p, columns * p): False on patches that lie wholly in the padding."""
    per_side = settings.crop // settings.patch
    mask = torch.ones(rows * per_side, columns * per_side, dtype=torch.bool)
    mask[:, mask.shape[1] - pad_right // settings.patch :] = False
    mask[mask.shape[0] - pad_bottom // settings.patch :, :] = False
    return mask


def _split(plane: torch.Tensor, side: int) -> torch.Tensor:
    channels, height, width = plane.shape
    tiles = plane.reshape(channels, height // side, side, width // side, side)
    return tiles.permute(1, 3, 0, 2, 4).reshape(-1, channels, side, side)
