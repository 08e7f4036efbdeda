"""Builds the tensor list of an encoder file from a checkpoint, one line per tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from app.convert.gguf_writer import PlannedTensor, whole
from app.convert.types import matrix_type
from app.runtime.formats.ggml_types import GgmlType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from app.convert.checkpoint import Checkpoint

    Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(slots=True)
class EncoderPlan:
    """The growing list of tensors of one encoder file.

    Attributes:
        checkpoint: where values come from.
        wanted: type of matrices that multiply activations.
        magnitudes: largest absolute value by canonical name.
        tensors: planned so far, in file order.
    """

    checkpoint: Checkpoint
    wanted: GgmlType
    magnitudes: Mapping[str, float]
    tensors: list[PlannedTensor] = field(default_factory=list)

    def exact(self, name: str, source: str, shape: tuple[int, ...], change: Change | None = None) -> None:
        """A tensor kept in F32, reshaped."""
        self._add(name, GgmlType.F32, (source,), shape, change)

    def matrix(self, name: str, sources: Sequence[str], shape: tuple[int, int], change: Change | None = None) -> None:
        """A matrix in the wanted type, its ``sources`` stacked by rows, then changed."""
        magnitude = max(self.magnitudes[source] for source in sources)
        self._add(name, matrix_type(self.wanted, shape[1], magnitude), sources, shape, change)

    def linear(
        self, name: str, sources: Sequence[str], shape: tuple[int, int], *, pad: tuple[int, int] | None = None
    ) -> None:
        """Weight and bias of a linear layer; ``sources`` without ``.weight``.

        ``pad`` is a larger shape filled with zeros, for rows that must hold whole blocks.
        """
        rows, columns = pad or shape
        weights = [source + ".weight" for source in sources]
        self.matrix(
            f"{name}.weight", weights, (rows, columns), lambda values: _pad(values.reshape(shape), rows, columns)
        )
        biases = [source + ".bias" for source in sources]
        self._add(f"{name}.bias", GgmlType.F32, biases, (rows,), lambda values: np.pad(values, (0, rows - len(values))))

    def norm(self, name: str, source: str, length: int) -> None:
        """Weight and bias of a layer norm."""
        self.exact(f"{name}.weight", f"{source}.weight", (length,))
        self.exact(f"{name}.bias", f"{source}.bias", (length,))

    def _add(
        self, name: str, ggml_type: GgmlType, sources: Sequence[str], shape: tuple[int, ...], change: Change | None
    ) -> None:
        def make() -> NDArray[np.float32]:
            values = np.concatenate([self.checkpoint.read(source) for source in sources])
            return values if change is None else change(values)

        self.tensors.append(whole(name, ggml_type, shape, make))


def _pad(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    if values.shape == (rows, columns):
        return values
    return np.pad(values, ((0, rows - values.shape[0]), (0, columns - values.shape[1])))
