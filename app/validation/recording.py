"""Recordings: npz files with ``<case id>/<name>`` arrays, written whole or not at all and read without trust."""

from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ARRAY_NAMES = ("tokens", "image_embeddings", "audio_embeddings", "logits")
Recording = dict[str, dict[str, np.ndarray]]


def write_recording(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` to ``path``; an interrupted write leaves no half file under that name.

    Raises:
        ValidationError: the file cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ValidationError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def read_recording(path: Path) -> Recording:
    """Read a recording as case id -> array name -> array.

    Raises:
        ValidationError: missing, no npz, or with entries that are not numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _by_case({name: file[name] for name in file.files}, path)
    except OSError as error:
        raise ValidationError(
            f"{path}: cannot be read ({error.strerror or error}); give a recording made by validate run"
        ) from error
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise ValidationError(f"{path}: is not a recording ({error}); make it by validate run or record") from error


def _by_case(arrays: dict[str, np.ndarray], path: Path) -> Recording:
    recording: Recording = {}
    for name, array in arrays.items():
        case, _, kind = name.rpartition("/")
        if not case or kind not in ARRAY_NAMES:
            raise ValidationError(f"{path}: has the foreign entry '{name}'; make it by validate run or record")
        recording.setdefault(case, {})[kind] = array
    return recording
