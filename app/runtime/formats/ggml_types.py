"""Tensor types of ggml: their numbers in a file, and how many bytes a block of values takes."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class GgmlType(IntEnum):
    """Numbers of ``enum ggml_type``; gaps are types that were removed."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40


class BlockSize(NamedTuple):
    """A type stores ``values`` neighbouring values of a row in ``n_bytes`` bytes."""

    values: int
    n_bytes: int


BLOCK_SIZES: dict[GgmlType, BlockSize] = {
    GgmlType.F32: BlockSize(1, 4),
    GgmlType.F16: BlockSize(1, 2),
    GgmlType.Q4_0: BlockSize(32, 18),
    GgmlType.Q4_1: BlockSize(32, 20),
    GgmlType.Q5_0: BlockSize(32, 22),
    GgmlType.Q5_1: BlockSize(32, 24),
    GgmlType.Q8_0: BlockSize(32, 34),
    GgmlType.Q8_1: BlockSize(32, 40),
    GgmlType.Q2_K: BlockSize(256, 84),
    GgmlType.Q3_K: BlockSize(256, 110),
    GgmlType.Q4_K: BlockSize(256, 144),
    GgmlType.Q5_K: BlockSize(256, 176),
    GgmlType.Q6_K: BlockSize(256, 210),
    GgmlType.Q8_K: BlockSize(256, 292),
    GgmlType.IQ2_XXS: BlockSize(256, 66),
    GgmlType.IQ2_XS: BlockSize(256, 74),
    GgmlType.IQ3_XXS: BlockSize(256, 98),
    GgmlType.IQ1_S: BlockSize(256, 50),
    GgmlType.IQ4_NL: BlockSize(32, 18),
    GgmlType.IQ3_S: BlockSize(256, 110),
    GgmlType.IQ2_S: BlockSize(256, 82),
    GgmlType.IQ4_XS: BlockSize(256, 136),
    GgmlType.I8: BlockSize(1, 1),
    GgmlType.I16: BlockSize(1, 2),
    GgmlType.I32: BlockSize(1, 4),
    GgmlType.I64: BlockSize(1, 8),
    GgmlType.F64: BlockSize(1, 8),
    GgmlType.IQ1_M: BlockSize(256, 56),
    GgmlType.BF16: BlockSize(1, 2),
    GgmlType.TQ1_0: BlockSize(256, 54),
    GgmlType.TQ2_0: BlockSize(256, 66),
    GgmlType.MXFP4: BlockSize(32, 17),
    GgmlType.NVFP4: BlockSize(64, 36),
}


NOT_WEIGHTS = frozenset(
    GgmlType[name]
    for name in ("I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K")  # libggml multiplies by none of them
)


def row_bytes(ggml_type: GgmlType, n_values: int) -> int:
    """Bytes of a row of ``n_values``.

    Raises:
        ValueError: the row does not hold whole blocks.
    """
    block = BLOCK_SIZES[ggml_type]
    if n_values % block.values:
        raise ValueError(f"a row of {n_values} values does not hold whole blocks of {block.values}")
    return n_values // block.values * block.n_bytes
