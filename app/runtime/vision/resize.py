"""The two resizes of the picture path (phi4mm 3.1, steps 6 and 8).

They differ on purpose: the picture is fitted to its grid by Pillow's antialiased triangle
filter on bytes, the global view is taken from the result by PyTorch's plain bicubic on floats.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BAND_PIXELS = 1 << 20  # 4 MiB inside Pillow: large pictures are never copied as a whole
_CUBIC_A = -0.75  # PyTorch's; Pillow's own bicubic has -0.5


def resize_bilinear(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize as ``PIL.Image.resize((width, height), BILINEAR)`` does, to the byte.

    Pillow resizes along one axis, rounds to bytes, then along the other. The two passes are
    asked for one after the other and in bands, which changes no result, keeps memory small and
    lets several cores work.

    Args:
        pixels: uint8, shape (rows, columns, 3).
        width: new number of columns.
        height: new number of rows.

    Returns:
        uint8, shape (height, width, 3).
    """
    rows, columns = pixels.shape[:2]
    if _vertical_first(columns, rows, width, height):
        return _resize_rows(_resize_columns(pixels, height), width)
    return _resize_columns(_resize_rows(pixels, width), height)


def _vertical_first(columns: int, rows: int, width: int, height: int) -> bool:
    """Pillow's order (13.0): by the height first if that shrinks by more than twice as many pixels."""
    return rows - height > max(0, 2 * (columns - width))


def _resize_rows(pixels: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return _in_bands(pixels, 0, lambda band: (width, band.shape[0]), (pixels.shape[0], width, 3))


def _resize_columns(pixels: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    return _in_bands(pixels, 1, lambda band: (band.shape[1], height), (height, pixels.shape[1], 3))


def _in_bands(
    pixels: NDArray[np.uint8],
    axis: int,
    new_size: Callable[[NDArray[np.uint8]], tuple[int, int]],
    shape: tuple[int, int, int],
) -> NDArray[np.uint8]:
    if pixels.shape == shape:
        return pixels
    result = np.empty(shape, np.uint8)
    source_bands, result_bands = (_bands(array, axis, pixels.shape) for array in (pixels, result))

    def resize(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        image = PillowImage.fromarray(np.ascontiguousarray(source))
        target[:] = np.asarray(image.resize(new_size(source), PillowImage.Resampling.BILINEAR))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), "resize") as pool:
        list(pool.map(resize, source_bands, result_bands))
    return result


def _bands(array: NDArray[np.uint8], axis: int, source_shape: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    across = source_shape[1 - axis]
    step = max(1, _BAND_PIXELS // across)
    cuts = list(range(step, source_shape[axis], step))
    return np.array_split(array, cuts, axis=axis)


def resize_bicubic(planes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Resize as ``torch.nn.functional.interpolate(mode="bicubic")`` does.

    A = -0.75, ``align_corners=False``, no antialiasing, edges repeated, values not clamped.

    Args:
        planes: float32, shape (channels, rows, columns).
        width: new number of columns.
        height: new number of rows.

    Returns:
        float32, shape (channels, height, width); within 1e-5 of PyTorch for values in [-1, 1].
    """
    rows = _cubic_pass(planes, height, axis=1)
    return _cubic_pass(rows, width, axis=2)


def _cubic_pass(planes: NDArray[np.float32], new_size: int, axis: int) -> NDArray[np.float32]:
    indices, weights = _cubic_taps(planes.shape[axis], new_size)
    along = (1, new_size, 1) if axis == 1 else (1, 1, new_size)
    total: NDArray[np.float32] | None = None
    for tap_indices, tap_weights in zip(indices, weights, strict=True):
        if not tap_weights.any():
            continue  # odd reductions hit pixel centres: one tap carries everything
        term = planes.take(tap_indices, axis=axis)
        term *= tap_weights.reshape(along)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None  # the weights of a position sum to one
    return total


@lru_cache(maxsize=64)
def _cubic_taps(size: int, new_size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Source indices and weights, both of shape (4 taps, new_size)."""
    centre = size / new_size * (np.arange(new_size) + 0.5) - 0.5
    left = np.floor(centre).astype(np.intp)
    taps = np.arange(-1, 3)[:, None]
    distance = np.abs((centre - left)[None, :] - taps)
    near = ((_CUBIC_A + 2) * distance - (_CUBIC_A + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC_A - 4 * _CUBIC_A
    weights = np.where(distance <= 1, near, far).astype(np.float32)
    return np.clip(left[None, :] + taps, 0, size - 1), weights
