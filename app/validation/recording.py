"""Recordings: npz files with ``<case id>/<name>`` arrays, written whole or not at all and read without trust."""

from __future__ import annotations

import os
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import numpy as np

from app.common.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

ARRAY_NAMES = ("tokens", "image_embeddings", "audio_embeddings", "logits")
Recording = dict[str, dict[str, np.ndarray]]


class RecordingWriter:
    """Writes a recording case by case, so that no more than one case is in memory.

    A context manager; the file appears under its name when the block ends well, and not at all otherwise.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is written before the block is entered."""
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")

    def __enter__(self) -> Self:
        """Open the temporary file.

        Raises:
            ValidationError: the place cannot be written to.
        """
        with self._writing():
            self._archive = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        return self

    def add(self, case: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the arrays of one case.

        Raises:
            ValidationError: the disk is full or the file cannot be written.
        """
        for name, array in arrays.items():
            with self._writing(), self._archive.open(f"{case}/{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Put the file in its place, or remove what there is of it."""
        try:
            with self._writing():
                self._archive.close()
                if error is None:
                    os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValidationError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error


def read_recording(path: Path) -> Recording:
    """Read a recording as case id -> array name -> array.

    Raises:
        ValidationError: missing, no npz, or with entries that are not numbers.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            _check_names(archive.namelist(), path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return _by_case({name: file[name] for name in file.files})
    except OSError as error:
        raise ValidationError(
            f"{path}: cannot be read ({error.strerror or error}); give a recording made by validate run"
        ) from error
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValidationError(f"{path}: is not a recording ({error}); make it by validate run or record") from error


def _by_case(arrays: dict[str, np.ndarray]) -> Recording:
    recording: Recording = {}
    for name, array in arrays.items():
        case, _, kind = name.rpartition("/")
        recording.setdefault(case, {})[kind] = array
    return recording


def _check_names(entries: list[str], path: Path) -> None:
    for entry in entries:
        case, _, kind = entry.removesuffix(".npy").rpartition("/")
        if not case or kind not in ARRAY_NAMES or not entry.endswith(".npy"):
            raise ValidationError(f"{path}: has the foreign entry {entry!a}; make it by validate run or record")
