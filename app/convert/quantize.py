"""Quantize a language model file by libllama's own quantizer."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from app.common.errors import NativeCallError
from app.runtime.ffi import native_log
from app.runtime.ffi.quantize import (
    ModelQuantizeParams,
    llama_model_quantize,
    llama_model_quantize_default_params,
)

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BUFFER_BYTES = 1 << 28  # rows held in memory at once; the library's own default is 8 GiB


def quantize_language(source: Path, target: Path, file_type: int, n_threads: int | None = None) -> None:
    """Write ``target`` from a full-precision ``source``; the bytes do not depend on ``n_threads``.

    Args:
        source: a language model in F32, F16 or BF16.
        target: where to.
        file_type: number of ``enum llama_ftype``.
        n_threads: all cores by default.

    Raises:
        NativeCallError: libllama refused or could not write.
    """
    params = llama_model_quantize_default_params()
    _check_layout(params)
    params.ftype = file_type
    params.nthread = n_threads or os.cpu_count() or 1
    params.max_buf_size = _MAX_BUFFER_BYTES
    code = llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params))
    if code != 0:
        message = native_log.with_troubles(f"{source.name} could not be quantized; is the disk full?")
        raise NativeCallError("llama_model_quantize", message, code)


def _check_layout(params: ModelQuantizeParams) -> None:
    """The structure goes by value: compare the library's defaults with those of the header it was written from."""
    found = (params.ftype, params.quantize_output_tensor, params.pure, params.imatrix, params.max_buf_size)
    if found != (7, True, False, None, 8 << 30):
        raise NativeCallError(
            "llama_model_quantize_default_params", "libllama has another layout than expected; run: make setup"
        )
