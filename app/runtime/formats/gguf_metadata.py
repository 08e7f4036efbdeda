"""The key-value section of a GGUF file: one checked pass, values decoded when asked for.

A vocabulary of 200,000 strings is only walked over here, not decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from app.common.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_KEYS = 1 << 16
MAX_KEY_BYTES = 1 << 16
MAX_STRINGS = 1 << 22  # in all arrays of a file together: bounds the time a hostile file can take
_MIN_KEY_BYTES = 8 + 1 + 4 + 1
_LENGTH = struct.Struct("<Q")


class ValueType(IntEnum):
    """Numbers of ``enum gguf_type``."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_DTYPES: dict[int, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("u1"),
    ValueType.INT8: np.dtype("i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value lies: ``count`` is None for scalars, ``begin`` and ``end`` enclose the payload."""

    type: int
    count: int | None
    begin: int
    end: int


class Metadata(Mapping[str, Any]):
    """Key to value: int, float, bool, str, list of str, or a numpy array of numbers."""

    def __init__(self, data: NDArray[np.uint8], places: dict[str, _Place], source: str) -> None:
        self._data = data
        self._places = places
        self._source = source

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - the file decides the type
        """Decode the value of ``key``.

        Raises:
            KeyError: there is no such key.
            ModelFormatError: a string is not UTF-8.
        """
        place = self._places[key]
        if place.type == ValueType.STRING:
            return self._strings(key, place) if place.count is not None else self._string(key, place.begin, place.end)
        values = self._data[place.begin : place.end].view(_DTYPES[place.type])
        return values.copy() if place.count is not None else values[0].item()

    def __iter__(self) -> Iterator[str]:
        """Keys in file order."""
        return iter(self._places)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._places)

    def array_length(self, key: str) -> int:
        """Entries of an array, without decoding them; -1 when ``key`` is absent or no array."""
        place = self._places.get(key)
        return -1 if place is None or place.count is None else place.count

    def close(self) -> None:
        """Forget the memory map and every key."""
        self._data = np.zeros(0, np.uint8)
        self._places = {}

    def _strings(self, key: str, place: _Place) -> list[str]:
        data = self._data[place.begin : place.end].tobytes()
        strings, position = [], 0
        try:
            for _ in range(place.count or 0):
                begin = position + 8
                position = begin + _LENGTH.unpack_from(data, position)[0]
                strings.append(data[begin:position].decode())
        except UnicodeDecodeError as error:
            raise self._not_text(key) from error
        return strings

    def _string(self, key: str, begin: int, end: int) -> str:
        try:
            return self._data[begin + 8 : end].tobytes().decode()
        except UnicodeDecodeError as error:
            raise self._not_text(key) from error

    def _not_text(self, key: str) -> ModelFormatError:
        return ModelFormatError(f"{self._source}: metadata key {key} is not UTF-8 text; the file is damaged")


class MetadataScanner:
    """Walks over the head of a file, checking every length against what is left.

    Attributes:
        position: bytes consumed so far.
    """

    def __init__(self, data: NDArray[np.uint8], source: str) -> None:
        self._data = data
        self._buffer = data.data
        self._source = source
        self._strings_left = MAX_STRINGS
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes from here to the end of the file."""
        return len(self._data) - self.position

    def error(self, message: str) -> ModelFormatError:
        """A ready error about this file."""
        return ModelFormatError(f"{self._source} is unusable: {message}; install or convert the model again")

    def take(self, n_bytes: int, field: str) -> bytes:
        """The next bytes, copied; ``field`` names them in the error when the file ends first."""
        if n_bytes > self.remaining:
            raise self.error(f"the file ends inside {field}")
        self.position += n_bytes
        return bytes(self._buffer[self.position - n_bytes : self.position])

    def number(self, code: str, field: str) -> int:
        """The next number; ``code`` is a struct code of one integer."""
        value: int = struct.unpack(code, self.take(struct.calcsize(code), field))[0]
        return value

    def text(self, field: str, max_bytes: int) -> str:
        """The next length-prefixed string, decoded."""
        length = self.number("<Q", field)
        if length > max_bytes:
            raise self.error(f"{field} is {length} bytes long")
        try:
            return self.take(length, field).decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{field} is not UTF-8 text") from error

    def read_metadata(self, n_keys: int) -> Metadata:
        """Walk over ``n_keys`` pairs; duplicates and unknown types are errors."""
        if n_keys > min(MAX_KEYS, self.remaining // _MIN_KEY_BYTES):
            raise self.error(f"the metadata count {n_keys} is impossible for a file of this size")
        places: dict[str, _Place] = {}
        for index in range(n_keys):
            key = self.text(f"metadata key {index}", MAX_KEY_BYTES)
            if key in places:
                raise self.error(f"metadata key {key!r} appears twice")
            places[key] = self._place(f"metadata key {key!r}")
        return Metadata(self._data, places, self._source)

    def _place(self, field: str) -> _Place:
        value_type = self.number("<I", field)
        if value_type != ValueType.ARRAY:
            begin = self.position
            self._skip(value_type, 1, field)
            return _Place(value_type, None, begin, self.position)
        value_type = self.number("<I", field)
        count = self.number("<Q", field)
        begin = self.position
        self._skip(value_type, count, field)
        return _Place(value_type, count, begin, self.position)

    def _skip(self, value_type: int, count: int, field: str) -> None:
        if value_type == ValueType.STRING:
            self._skip_strings(count, field)
            return
        if value_type not in _DTYPES:
            raise self.error(f"{field} has the unknown type {value_type}")
        n_bytes = count * _DTYPES[value_type].itemsize
        if n_bytes > self.remaining:
            raise self.error(f"the file ends inside {field}")
        if value_type == ValueType.BOOL and self._data[self.position : self.position + n_bytes].max(initial=0) > 1:
            raise self.error(f"{field} is neither true nor false")
        self.position += n_bytes

    def _skip_strings(self, count: int, field: str) -> None:
        self._strings_left -= count
        if count > self.remaining // 8 or self._strings_left < 0:
            raise self.error(f"{field} states {count} strings, impossibly many")
        unpack, buffer, position = _LENGTH.unpack_from, self._buffer, self.position
        try:
            for _ in range(count):
                position += 8 + unpack(buffer, position)[0]
        except (struct.error, OverflowError) as error:  # a length led past the end of the file
            raise self.error(f"the file ends inside {field}") from error
        if position > len(self._data):
            raise self.error(f"the file ends inside {field}")
        self.position = position
