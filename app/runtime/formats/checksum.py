"""SHA-256 of files, and a memory of which large files were already checked."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from app.common.errors import ModelFormatError
from app.common.paths import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_logger = logging.getLogger("app.runtime.formats")
_CHUNK_BYTES = 1 << 20
_CLOCK_STEP_NS = 50_000_000  # file systems keep times in steps; this is longer than any
_CACHE_FILE = "verified-files.json"
_MAX_CACHE_BYTES = 1 << 20


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hex digest of a file.

    Args:
        path: the file.
        progress: called with the bytes read since the last call.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def verify(path: Path, expected: str, progress: Callable[[int], None] | None = None) -> None:
    """Hash a file and compare.

    Raises:
        ModelFormatError: it cannot be read or has another digest.
    """
    try:
        found = sha256_of(path, progress)
    except OSError as error:
        raise ModelFormatError(
            f"{path} cannot be read: {error.strerror}; install or convert the model again"
        ) from error
    if found != expected:
        raise ModelFormatError(
            f"{path} is damaged: its sha256 is not the one in model.yaml; install or convert it again"
        )


def verify_once(path: Path, expected: str, progress: Callable[[int], None] | None = None) -> None:
    """As :func:`verify`, but a file that has not changed since it last passed is not read again.

    Raises:
        ModelFormatError: as :func:`verify`.
    """
    fingerprint = _fingerprint(path, expected)
    known = _read_cache()
    if fingerprint is not None and known.get(str(path.resolve())) == fingerprint:
        return
    verify(path, expected, progress)
    if fingerprint is not None and fingerprint == _fingerprint(path, expected):
        _write_cache(known | {str(path.resolve()): fingerprint})


def remember(path: Path, expected: str) -> None:
    """Note that a file whose digest was just taken has digest ``expected``, so that it is not read again to check."""
    fingerprint = _fingerprint(path, expected)
    if fingerprint is not None:
        _write_cache(_read_cache() | {str(path.resolve()): fingerprint})


def _fingerprint(path: Path, expected: str) -> list[Any] | None:
    """What must be the same for a file to count as unchanged; None when nothing can be said.

    A file written a moment ago could change once more without its time of change moving on.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    if abs(time.time_ns() - status.st_mtime_ns) < _CLOCK_STEP_NS:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino, expected]


def _read_cache() -> dict[str, Any]:
    path = cache_dir() / _CACHE_FILE
    try:
        if path.stat().st_size > _MAX_CACHE_BYTES:
            return {}
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _write_cache(values: dict[str, Any]) -> None:
    """Replace the cache file; a cache that cannot be written only costs time next time."""
    path = cache_dir() / _CACHE_FILE
    present = {name: entry for name, entry in values.items() if os.path.exists(name)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(present), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        _logger.debug("cannot remember verified files: %s", error)
