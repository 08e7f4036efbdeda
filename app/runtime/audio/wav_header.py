"""One look at a WAV header: FFmpeg does not say when the end of a WAV file is missing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from app.common.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = struct.Struct("<4sI")
_LARGEST_CHUNKS = 64  # a header with more before its data is left to the decoder
_MISSING_SHARE = 0.02  # some writers miscount by a few bytes
_UNKNOWN_FROM = 0x7F000000  # recorders that write to a pipe state the largest size they can


def check_wav_complete(file: BinaryIO, name: str) -> None:
    """Raise MediaError if ``file`` is a WAV file whose data chunk is cut off; leave it at its start.

    Files that do not know their size (0 or a huge one, as written to pipes) pass.
    """
    file_bytes = file.seek(0, 2)
    for chunk, position, size in _chunks(file):
        missing = position + size - file_bytes
        if chunk == b"data" and missing > size * _MISSING_SHARE and size < _UNKNOWN_FROM:
            raise MediaError(f"{name} is cut off: {missing} of its {size} bytes of sound are missing; copy it again")
    file.seek(0)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size in bytes of the first chunks up to the data."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return
    position = len(head)
    for _ in range(_LARGEST_CHUNKS):
        file.seek(position)
        header = file.read(_CHUNK.size)
        if len(header) < _CHUNK.size:
            return
        chunk, size = _CHUNK.unpack(header)
        yield chunk, position + _CHUNK.size, size
        if chunk == b"data":
            return
        position += _CHUNK.size + size + size % 2
