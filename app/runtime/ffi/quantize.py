"""Typed stubs of libllama's quantizer of whole language model files."""

from __future__ import annotations

import ctypes
from typing import Final

from app.runtime.ffi.binding import Reference, Text, UInt32, native_function

GGML_TYPE_COUNT: Final = 43  # means "choose by the recipe" in the two type fields


class TensorTypeOverride(ctypes.Structure):
    """llama_model_tensor_override: tensors whose name matches the pattern get this type.

    An array of them ends with a NULL pattern.
    """

    _fields_ = (("pattern", ctypes.c_char_p), ("type", ctypes.c_int))


class ModelQuantizeParams(ctypes.Structure):
    """llama_model_quantize_params."""

    _fields_ = (
        ("nthread", ctypes.c_int32),
        ("ftype", ctypes.c_int),
        ("output_tensor_type", ctypes.c_int),
        ("token_embedding_type", ctypes.c_int),
        ("allow_requantize", ctypes.c_bool),
        ("quantize_output_tensor", ctypes.c_bool),
        ("only_copy", ctypes.c_bool),
        ("pure", ctypes.c_bool),
        ("keep_split", ctypes.c_bool),
        ("dry_run", ctypes.c_bool),
        ("imatrix", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("tt_overrides", ctypes.c_void_p),
        ("prune_layers", ctypes.c_void_p),
        ("max_buf_size", ctypes.c_size_t),
    )


@native_function
def llama_model_quantize_default_params() -> ModelQuantizeParams:
    """Default quantization parameters."""


@native_function
def llama_model_quantize(source: Text, target: Text, params: Reference) -> UInt32:
    """Quantize a whole language model file; 0 on success."""
