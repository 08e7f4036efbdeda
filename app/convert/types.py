"""The types a model can be converted to, and the type each tensor then gets.

Only matrices that multiply activations are stored in the chosen type; everything else is F32
(docs/model-format.md says why).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.common.errors import ConfigError
from app.runtime.formats.ggml_types import BLOCK_SIZES, GgmlType

MAX_FLOAT16 = 65504.0
QUANTIZED_BLOCK = 32  # values; the block of q8_0 and q4_0


@dataclass(frozen=True, slots=True)
class ConversionType:
    """One choice of ``hearsee convert --type``.

    Attributes:
        name: as typed.
        encoder: type of encoder and adapter matrices.
        file_type: number of ``enum llama_ftype`` for the language model.
    """

    name: str
    encoder: GgmlType
    file_type: int

    @property
    def is_quantized(self) -> bool:
        """Whether libllama's quantizer makes the language model."""
        return BLOCK_SIZES[self.encoder].values > 1


# Encoders and adapters take q8_0 with the k-quants: widths such as 1152, 4304 and rank 320 do not
# hold k-quant blocks of 256, and both are small beside the language model.
CONVERSION_TYPES = {
    choice.name: choice
    for choice in (
        ConversionType("f32", GgmlType.F32, 0),
        ConversionType("f16", GgmlType.F16, 1),
        ConversionType("bf16", GgmlType.BF16, 32),
        ConversionType("q8_0", GgmlType.Q8_0, 7),
        ConversionType("q6_k", GgmlType.Q8_0, 18),
        ConversionType("q5_k_m", GgmlType.Q8_0, 17),
        ConversionType("q4_k_m", GgmlType.Q8_0, 15),
        ConversionType("q4_0", GgmlType.Q4_0, 2),
    )
}


def conversion_type(name: str) -> ConversionType:
    """The choice called ``name``, in any case.

    Raises:
        ConfigError: there is no such choice.
    """
    choice = CONVERSION_TYPES.get(name.lower())
    if choice is None:
        raise ConfigError(f"{name!r} is not a type of model; choose one of {', '.join(CONVERSION_TYPES)}")
    return choice


def matrix_type(wanted: GgmlType, columns: int, magnitude: float) -> GgmlType:
    """The type a matrix really gets.

    Args:
        wanted: the chosen type.
        columns: row length; rows without whole blocks fall back to F16.
        magnitude: largest absolute value; beyond the range of F16 the fall back is F32.
    """
    fits = columns % BLOCK_SIZES[wanted].values == 0
    chosen = wanted if fits else GgmlType.F16
    return GgmlType.F32 if chosen is GgmlType.F16 and magnitude > MAX_FLOAT16 else chosen


def padded(length: int, wanted: GgmlType) -> int:
    """``length`` rounded up to whole blocks of ``wanted``; bfloat16 products are fast on rows of whole 32s only."""
    block = QUANTIZED_BLOCK if wanted is GgmlType.BF16 else BLOCK_SIZES[wanted].values
    return -(-length // block) * block


def largest_float32(value: float) -> float:
    """``value`` as the nearest float32, for metadata that llama.cpp reads as such."""
    return float(np.float32(value))
