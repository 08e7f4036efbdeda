"""Where bytes of pictures and sounds come from: a regular file or memory."""

from __future__ import annotations

import io
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.common.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

Source = str | os.PathLike[str] | bytes


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open for reading; a file is closed at the end.

    Only regular files are taken: a device or a pipe could block for ever or never end.

    Raises:
        MediaError: missing, a directory, unreadable, not a regular file, or empty.
    """
    if isinstance(source, bytes):
        if not source:
            raise MediaError(f"{source_name(source)} is empty (0 bytes)")
        yield io.BytesIO(source)
        return
    with _open_file(source) as file:
        yield file


def source_name(source: Source) -> str:
    """A label for messages: the file name in printable characters."""
    if isinstance(source, bytes):
        return "the data given"
    name = Path(source).name or str(source)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)


def _open_file(source: str | os.PathLike[str]) -> BinaryIO:
    name = source_name(source)
    try:
        status = os.stat(source)
        _check_kind(status, name)
        return open(source, "rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{name} cannot be read: {reason}; check the path") from error


def _check_kind(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name} is a directory; give a picture or sound file")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{name} is not a regular file; save its content to a file first")
    if status.st_size == 0:
        raise MediaError(f"{name} is empty (0 bytes)")
