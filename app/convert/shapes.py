"""Sizes that a configuration leaves out, read from the tensors themselves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from app.common.errors import ConversionError
from app.convert.expected import ENCODER, TOWER

if TYPE_CHECKING:
    from collections.abc import Mapping

PATCHES = TOWER + "embeddings.patch_embedding.weight"
POSITIONS = TOWER + "embeddings.position_embedding.weight"
LAYERS = TOWER + "encoder.layers."
FIRST_CONV = ENCODER + "embed.conv.0.weight"
RELATIVE_BIAS = ENCODER + "relative_attention_bias_layer.bias_values.weight"


class ShapeLookup:
    """Looks up one extent of one tensor by canonical name."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def extent(self, name: str, axis: int) -> int:
        """Length of ``name`` along ``axis``.

        Raises:
            ConversionError: the tensor is missing or has fewer axes.
        """
        shape = self._shapes.get(name)
        if shape is None:
            raise ConversionError(f"tensor {name} is missing from the checkpoint")
        if axis >= len(shape):
            raise ConversionError(f"tensor {name} has the unexpected shape {list(shape)}")
        return shape[axis]

    def position_grid(self) -> int:
        """Side of the square table of position embeddings."""
        rows = self.extent(POSITIONS, 0)
        side = math.isqrt(rows)
        if side * side != rows:
            raise ConversionError(f"tensor {POSITIONS} has {rows} rows, which is not a square")
        return side

    def layer_count(self, prefix: str) -> int:
        """Number of layers below ``prefix``: one more than the highest index."""
        indices = (name.removeprefix(prefix).split(".", 1)[0] for name in self._shapes if name.startswith(prefix))
        return 1 + max((int(index) for index in indices if index.isdecimal()), default=-1)
