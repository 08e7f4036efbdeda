"""The safetensors container: a memory-mapped, validated reader and a streaming writer.

The header is read here and not by the ``safetensors`` library because that library's numpy
front end has no bfloat16 and holds all tensors of a file in memory to write them.
"""

from __future__ import annotations

import json
import mmap
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from app.common.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

_CHUNK_VALUES = 1 << 22
MAX_HEADER_BYTES = 100_000_000  # the library's own limit
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file: its dtype name, shape, and place inside the data section."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """One ``.safetensors`` file, mapped read-only; a context manager.

    Attributes:
        tensors: every tensor by name, in file order.
    """

    def __init__(self, path: Path) -> None:
        """Map ``path`` and validate its header.

        Raises:
            ConversionError: the file is not a well-formed safetensors file.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ConversionError(f"{path} cannot be read: {error}") from error
        try:
            self._data_start, header = _read_header(self._map, path)
            self.tensors = _read_infos(header, len(self._map) - self._data_start, path)
        except ConversionError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Unmap the file."""
        self.close()

    def close(self) -> None:
        """Unmap the file; where a view is still held, by the frames of an error for one, the map goes with it."""
        with suppress(BufferError):
            self._map.close()

    def raw(self, name: str) -> NDArray[Any]:
        """One tensor as stored, flat, a view of the map; BF16 as uint16."""
        info = self.tensors[name]
        return np.frombuffer(self._map, _DTYPES[info.dtype], prod(info.shape), self._data_start + info.begin)

    def read_float32(self, name: str, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Rows ``begin`` to ``end`` of a tensor as float32; a copy, so the map may be closed afterwards."""
        info = self.tensors[name]
        row = prod(info.shape[1:])
        raw = self.raw(name)[begin * row : None if end is None else end * row]
        values = (raw.astype(np.uint32) << 16).view(np.float32) if info.dtype == "BF16" else raw.astype(np.float32)
        return values.reshape(-1, *info.shape[1:]) if info.shape else values.reshape(())

    def release(self, name: str) -> None:
        """Let the system take back the memory of a tensor that has been read; the file stays mapped."""
        info, advice = self.tensors[name], getattr(mmap, "MADV_DONTNEED", None)
        if advice is None:  # not on Windows
            return
        begin = (self._data_start + info.begin) // mmap.PAGESIZE * mmap.PAGESIZE
        if (n_bytes := self._data_start + info.end - begin) > 0:
            self._map.madvise(advice, begin, n_bytes)

    def magnitude(self, name: str) -> float:
        """The largest absolute value; infinity if any value is NaN or infinite.

        Works on the bits, sign removed: they order as the values do and NaN comes out on top.
        """
        info = self.tensors[name]
        dtype = _DTYPES[info.dtype]
        raw = self.raw(name).view(f"<u{dtype.itemsize}")
        mask = raw.dtype.type((1 << (8 * dtype.itemsize - 1)) - 1)
        steps = range(0, len(raw), _CHUNK_VALUES)
        largest = max((int((raw[at : at + _CHUNK_VALUES] & mask).max()) for at in steps), default=0)
        bits = np.array([largest << 16 if info.dtype == "BF16" else largest])
        float_type = "<f4" if info.dtype == "BF16" else dtype
        value = float(bits.astype(f"<u{np.dtype(float_type).itemsize}").view(float_type)[0])
        return value if isfinite(value) else inf


def _read_header(data: mmap.mmap, path: Path) -> tuple[int, dict[str, Any]]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ConversionError(f"{path} is not a safetensors file or is cut off: its header does not fit")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path}: the safetensors header is not JSON; download the file again") from error
    if not isinstance(header, dict):
        raise ConversionError(f"{path}: the safetensors header is not an object; download the file again")
    return 8 + length, header


def _read_infos(header: dict[str, Any], data_bytes: int, path: Path) -> dict[str, TensorInfo]:
    infos = {name: _read_info(name, entry, path) for name, entry in header.items() if name != "__metadata__"}
    end = 0
    for name, info in sorted(infos.items(), key=lambda item: item[1].begin):
        if info.begin != end:
            raise ConversionError(f"{path}: tensor {name} overlaps another or leaves a gap; download the file again")
        end = info.end
    if end != data_bytes:
        raise ConversionError(
            f"{path} holds {data_bytes} bytes of tensors where its header states {end}; download it again"
        )
    return infos


def _read_info(name: str, entry: Any, path: Path) -> TensorInfo:  # noqa: ANN401 - parsed JSON
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers_are_natural = all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise ConversionError(f"{path}: the header entry of tensor {name} is malformed") from error
    if not numbers_are_natural or len(shape) > 8:
        raise ConversionError(f"{path}: the header entry of tensor {name} is malformed")
    if dtype not in _DTYPES:
        raise ConversionError(f"{path}: tensor {name} has type {dtype}; only BF16, F16, F32 and F64 can be converted")
    if end - begin != prod(shape) * _DTYPES[dtype].itemsize:
        raise ConversionError(f"{path}: tensor {name} states {end - begin} bytes, which do not fit its shape {shape}")
    return TensorInfo(dtype, shape, begin, end)


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    make: Callable[[str, tuple[int, ...]], NDArray[np.float32]],
    dtype: str,
) -> None:
    """Write a file tensor by tensor.

    Args:
        path: where to.
        shapes: name to shape, in the order of the file.
        make: gives the float32 values of one tensor when its turn comes.
        dtype: ``F32``, ``F16`` or ``BF16`` of the file; values are rounded to nearest, ties to even.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = prod(shape) * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = make(name, shape).reshape(-1)
            for at in range(0, len(values), _CHUNK_VALUES):
                file.write(to_stored(values[at : at + _CHUNK_VALUES], dtype).data)


def to_stored(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Round float32 values to the stored form; BF16 as its upper 16 bits in uint16."""
    if dtype != "BF16":
        return values.astype(_DTYPES[dtype])
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: NDArray[Any] = ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return rounded
