"""Write a GGUF file tensor by tensor: the head by the ``gguf`` package, the data streamed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from app.convert.encode import encode
from app.runtime.formats.ggml_types import GgmlType, row_bytes
from app.runtime.formats.params import FORMAT_VERSION, FORMAT_VERSION_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_ALIGNMENT = gguf.GGUF_DEFAULT_ALIGNMENT


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of the file to be.

    Attributes:
        name: in the file.
        type: how it is stored.
        shape: as numpy sees it, rows first.
        blocks: gives its float32 values as consecutive blocks of whole rows, when its turn comes.
        stored: the blocks are already in the form they are stored in.
    """

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    blocks: Callable[[], Iterable[NDArray[Any]]]
    stored: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes in the file, without padding."""
        return prod(self.shape[:-1]) * row_bytes(self.type, self.shape[-1])


def whole(
    name: str, ggml_type: GgmlType, shape: tuple[int, ...], make: Callable[[], NDArray[np.float32]]
) -> PlannedTensor:
    """A tensor small enough to be made at once; ``make`` may return any shape of the same size."""
    return PlannedTensor(name, ggml_type, shape, lambda: (make().reshape(shape),))


def write_gguf(
    path: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    tensors: Sequence[PlannedTensor],
    progress: Callable[[int], None],
) -> None:
    """Write a file; the same arguments give the same bytes.

    Args:
        path: where to.
        architecture: ``general.architecture``.
        metadata: key to str, bool, int (UINT32), float (FLOAT64), numpy scalar or int32 array, or list of str.
        tensors: in file order.
        progress: called with the bytes of each finished tensor.

    Raises:
        OSError: the disk is full or not writable.
    """
    _write_head(path, architecture, metadata, tensors)
    with path.open("ab") as file:
        _pad(file)
        for tensor in tensors:
            for block in tensor.blocks():
                file.write(block.data if tensor.stored else encode(block, tensor.type).data)
            _pad(file)
            progress(tensor.n_bytes)


def _write_head(path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Sequence[PlannedTensor]) -> None:
    """Everything before the tensor data."""
    writer = gguf.GGUFWriter(path, architecture)
    try:
        writer.add_uint32(FORMAT_VERSION_KEY, FORMAT_VERSION)
        for key, value in metadata.items():
            _add(writer, key, value)
        for tensor in tensors:
            raw_type = gguf.GGMLQuantizationType(int(tensor.type))
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.void), tensor.n_bytes, raw_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _pad(file: Any) -> None:  # noqa: ANN401 - a binary file
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:  # noqa: ANN401 - dispatches on the type
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, np.float32):
        writer.add_float32(key, float(value))
    elif isinstance(value, float):
        writer.add_float64(key, value)
    elif isinstance(value, np.ndarray):
        writer.add_key_value(key, value.tolist(), gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32)
    elif isinstance(value, list):
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING)
    else:
        raise TypeError(f"metadata {key} is of type {type(value).__name__}")
