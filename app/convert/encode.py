"""Float32 rows to the bytes of a ggml type; quantized types by libggml's own code."""

from __future__ import annotations

import ctypes
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import NativeCallError
from app.convert.safetensors import to_stored
from app.runtime.ffi.ggml import ggml_quantize_chunk
from app.runtime.formats.ggml_types import GgmlType, row_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode(values: NDArray[np.float32], ggml_type: GgmlType) -> NDArray[np.uint8]:
    """The stored bytes of whole rows.

    Args:
        values: float32, shape (..., columns).
        ggml_type: F32, F16, BF16 or a quantized type whose block divides ``columns``.

    Returns:
        uint8, shape (n_bytes,).
    """
    if ggml_type is GgmlType.F32:
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if ggml_type in (GgmlType.F16, GgmlType.BF16):
        return to_stored(values, ggml_type.name).reshape(-1).view(np.uint8)
    return _quantize(np.ascontiguousarray(values, np.float32), ggml_type)


def _quantize(values: NDArray[np.float32], ggml_type: GgmlType) -> NDArray[np.uint8]:
    columns, rows = values.shape[-1], prod(values.shape[:-1])
    stored = np.empty(rows * row_bytes(ggml_type, columns), np.uint8)
    source, target = values.ctypes.data_as(ctypes.c_void_p), stored.ctypes.data_as(ctypes.c_void_p)
    written = ggml_quantize_chunk(int(ggml_type), source, target, 0, rows, columns, None)
    if written != stored.nbytes:
        raise NativeCallError("ggml_quantize_chunk", f"wrote {written} of {stored.nbytes} bytes; run: make setup")
    return stored
