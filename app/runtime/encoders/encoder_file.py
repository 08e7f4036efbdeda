"""Open an encoder's GGUF file and read its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from app.common.errors import ModelFormatError
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.params import FORMAT_VERSION, FORMAT_VERSION_KEY, AudioParams, VisionParams

if TYPE_CHECKING:
    from pathlib import Path

ParamsType = TypeVar("ParamsType", VisionParams, AudioParams)


def open_encoder_file(path: Path, architecture: str, params_type: type[ParamsType]) -> tuple[GgufFile, ParamsType]:
    """Map the file and check what it is.

    Args:
        path: the file.
        architecture: what ``general.architecture`` must be.
        params_type: which parameters its metadata hold.

    Raises:
        ModelFormatError: it is damaged, of another architecture or format version.
    """
    file = GgufFile(path)
    if file.architecture != architecture:
        raise ModelFormatError(
            f"{path} has architecture {file.architecture!r}, not {architecture!r}; install the model again"
        )
    version = file.metadata.get(FORMAT_VERSION_KEY)
    if version != FORMAT_VERSION:
        raise ModelFormatError(f"{path} has format version {version}, not {FORMAT_VERSION}; convert the model again")
    params = params_type.from_metadata(file.metadata, str(path))
    if params.block_count > len(file):
        raise ModelFormatError(
            f"{path} claims {params.block_count} blocks but has {len(file)} tensors; install the model again"
        )
    return file, params
