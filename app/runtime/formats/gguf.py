"""A validating reader of GGUF files.

Nothing a file says is believed before it is checked against the size of the file, so that a
damaged or hostile one ends in a :class:`ModelFormatError` that names the file and the field:
never in a crash, a hang or a huge allocation. Tensor data stay in the memory map.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from app.common.errors import ModelFormatError
from app.runtime.formats.ggml_types import GgmlType, row_bytes
from app.runtime.formats.gguf_metadata import Metadata, MetadataScanner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # the same layout; 3 only added big-endian files
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_TENSOR_NAME_BYTES = 63
MAX_TENSORS = 1 << 20
_MIN_TENSOR_INFO_BYTES = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True, eq=False)
class GgufTensor:
    """One tensor, its bytes untouched.

    Attributes:
        name: as in the file.
        type: how the values are stored.
        shape: as numpy sees it, rows first (the file has it the other way round).
        data: the stored bytes, uint8 of shape (n_bytes,), a read-only view of the memory map.
    """

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def float32(self) -> NDArray[np.float32]:
        """The values of an F32 tensor in its shape, a view.

        Raises:
            ModelFormatError: the tensor is stored in another type.
        """
        if self.type is not GgmlType.F32:
            raise ModelFormatError(
                f"tensor {self.name} is {self.type.name} where F32 is needed; convert the model again"
            )
        return self.data.view(np.float32).reshape(self.shape)


class GgufFile(Mapping[str, GgufTensor]):
    """An open GGUF file: a mapping of its tensors by name, in file order.

    The memory map lives as long as any tensor's ``data`` does. A context manager for
    symmetry with other resources; leaving it drops this object's own references.

    Attributes:
        path: the file.
        metadata: key to Python value; arrays and strings are decoded on access.
        data_offset: where the tensor data start in the file.
    """

    def __init__(self, path: Path) -> None:
        """Map and validate ``path``.

        Raises:
            ModelFormatError: the file is missing, unreadable, damaged or not GGUF.
        """
        self.path = path
        self._bytes = _map(path)
        scanner = MetadataScanner(self._bytes, str(path))
        n_tensors, n_keys = _read_counts(scanner)
        self.metadata: Metadata = scanner.read_metadata(n_keys)
        infos = [_read_info(scanner, index) for index in range(n_tensors)]
        alignment = _alignment(self.metadata, path)
        self.data_offset = -(-scanner.position // alignment) * alignment
        self._tensors = _place(infos, self._bytes, self.data_offset, alignment, path)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Drop the references to the memory map."""
        self.close()

    def close(self) -> None:
        """Drop the references to the memory map; tensors given out keep it alive."""
        self._tensors = {}
        self.metadata.close()
        self._bytes = np.zeros(0, np.uint8)

    def __getitem__(self, name: str) -> GgufTensor:
        """The tensor called ``name``; KeyError when there is none."""
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        """Tensor names in file order."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._tensors)

    @property
    def architecture(self) -> str:
        """``general.architecture``, or an empty string."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class _TensorInfo:
    name: str
    type: GgmlType
    shape: tuple[int, ...]
    n_bytes: int
    offset: int


def _map(path: Path) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    except (OSError, ValueError) as error:
        reason = "it is empty" if isinstance(error, ValueError) else error.strerror
        raise ModelFormatError(f"{path} cannot be read: {reason}; install or convert the model again") from error


def _read_counts(scanner: MetadataScanner) -> tuple[int, int]:
    """Check magic and version; the number of tensors and of metadata keys."""
    if scanner.take(4, "the file magic") != MAGIC:
        raise scanner.error("it is not a GGUF file")
    version = scanner.number("<I", "the format version")
    if version not in VERSIONS:
        swapped = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
        kind = "is big-endian" if swapped else f"has GGUF version {version}"
        raise scanner.error(f"it {kind}; version 3, little-endian, is needed")
    n_tensors = scanner.number("<Q", "the tensor count")
    n_keys = scanner.number("<Q", "the metadata count")
    if n_tensors > min(MAX_TENSORS, scanner.remaining // _MIN_TENSOR_INFO_BYTES):
        raise scanner.error(f"the tensor count {n_tensors} is impossible for a file of this size")
    return n_tensors, n_keys


def _alignment(metadata: Metadata, path: Path) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise ModelFormatError(f"{path}: general.alignment is {alignment!r}, not a power of two; the file is damaged")
    return alignment


def _read_info(scanner: MetadataScanner, index: int) -> _TensorInfo:
    name = scanner.text(f"the name of tensor {index}", MAX_TENSOR_NAME_BYTES)
    field = f"tensor {name!r}"
    n_dimensions = scanner.number("<I", f"the dimension count of {field}")
    if not 1 <= n_dimensions <= MAX_DIMENSIONS:
        raise scanner.error(f"{field} has {n_dimensions} dimensions")
    shape = tuple(scanner.number("<Q", f"the shape of {field}") for _ in range(n_dimensions))[::-1]
    number = scanner.number("<I", f"the type of {field}")
    offset = scanner.number("<Q", f"the offset of {field}")
    if number not in GgmlType.__members__.values():
        raise scanner.error(f"{field} has the unknown type {number}")
    ggml_type = GgmlType(number)
    return _TensorInfo(name, ggml_type, shape, _n_bytes(scanner, field, shape, ggml_type), offset)


def _n_bytes(scanner: MetadataScanner, field: str, shape: tuple[int, ...], ggml_type: GgmlType) -> int:
    if min(shape) == 0 or prod(shape) >= 1 << 62:
        raise scanner.error(f"{field} has the impossible shape {shape}")
    try:
        return prod(shape[:-1]) * row_bytes(ggml_type, shape[-1])
    except ValueError as error:
        raise scanner.error(f"{field} of type {ggml_type.name}: {error}") from error


def _place(
    infos: list[_TensorInfo], data: NDArray[np.uint8], start: int, alignment: int, path: Path
) -> dict[str, GgufTensor]:
    """Slice the data section; tensors must follow each other as ggml demands it."""
    tensors: dict[str, GgufTensor] = {}
    expected = 0
    for info in infos:
        if info.name in tensors:
            raise ModelFormatError(f"{path}: tensor {info.name!r} appears twice; the file is damaged")
        if info.offset != expected:
            raise ModelFormatError(
                f"{path}: tensor {info.name!r} does not start where the one before it ends; the file is damaged"
            )
        begin = start + info.offset
        if begin + info.n_bytes > len(data):
            raise ModelFormatError(f"{path} is cut off inside tensor {info.name!r}; copy or download it again")
        tensors[info.name] = GgufTensor(info.name, info.type, info.shape, data[begin : begin + info.n_bytes])
        expected += -(-info.n_bytes // alignment) * alignment
    return tensors


def scalar(metadata: Mapping[str, Any], key: str, kind: type, source: str) -> Any:  # noqa: ANN401 - typed by ``kind``
    """One metadata value of the Python type ``kind``.

    Raises:
        ModelFormatError: the key is missing or of another type.
    """
    value = metadata.get(key)
    if type(value) is not kind:
        problem = "is missing" if value is None else f"is not of type {kind.__name__}"
        raise ModelFormatError(f"{source}: metadata key {key} {problem}; convert the model again")
    return value
