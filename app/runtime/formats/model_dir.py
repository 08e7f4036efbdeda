"""A model directory as a whole: every file there, unchanged, of the right kind, made for the others.

Native code trusts what it is given; these checks stand between it and a damaged or mixed-up
directory. They read heads of files only, apart from the checksum, which is taken once per file.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from app.common.errors import ModelFormatError
from app.runtime.formats.checksum import verify, verify_once
from app.runtime.formats.gguf import GgufFile, scalar
from app.runtime.formats.language_file import check_language, check_type, language_shapes
from app.runtime.formats.manifest import Manifest, read_manifest
from app.runtime.formats.params import FORMAT_VERSION, FORMAT_VERSION_KEY, AudioParams, VisionParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Progress = Callable[[int], None]

ARCHITECTURES = {
    "language": "phi3",
    "vision_adapter": "phi3",
    "speech_adapter": "phi3",
    "vision_encoder": "phi4mm-vision",
    "audio_encoder": "phi4mm-audio",
}
_PARAMS: dict[str, type[VisionParams | AudioParams]] = {"vision_encoder": VisionParams, "audio_encoder": AudioParams}


def open_model_directory(directory: Path, progress: Progress | None = None) -> Manifest:
    """Read the manifest and check every file it lists.

    Args:
        directory: the model.
        progress: called with bytes hashed since the last call; files that passed before are not hashed again.

    Raises:
        ModelFormatError: one line about the first file that is missing, damaged or does not fit the others.
    """
    manifest = read_manifest(directory)
    check_sizes(directory, manifest)
    for entry in manifest.files.values():
        verify_once(directory / entry.path, entry.sha256, progress)
    check_contents(directory, manifest)
    return manifest


def verify_model_directory(directory: Path, progress: Progress | None = None) -> Manifest:
    """As :func:`open_model_directory`, but every byte is read whatever was checked before.

    Raises:
        ModelFormatError: as :func:`open_model_directory`.
    """
    manifest = read_manifest(directory)
    check_sizes(directory, manifest)
    for entry in manifest.files.values():
        verify(directory / entry.path, entry.sha256, progress)
    check_contents(directory, manifest)
    return manifest


def check_sizes(directory: Path, manifest: Manifest) -> None:
    """Every file must be there with the size the manifest states.

    Raises:
        ModelFormatError: names the first that is not.
    """
    for entry in manifest.files.values():
        path = directory / entry.path
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelFormatError(f"{path}: {error.strerror}; install or convert the model again") from error
        if size != entry.bytes:
            raise ModelFormatError(
                f"{path} has {size} bytes instead of {entry.bytes}; install or convert the model again"
            )


def check_contents(directory: Path, manifest: Manifest) -> None:
    """Every file must be of its role's kind and fit the language model.

    Raises:
        ModelFormatError: names the first that does not.
    """
    with ExitStack() as stack:
        files = {
            role: stack.enter_context(_open(directory / entry.path, ARCHITECTURES[role]))
            for role, entry in manifest.files.items()
        }
        language = files["language"]
        check_language(language)
        for role, file in files.items():
            if role.endswith("_adapter"):
                _check_adapter(file, role, language)
            elif role in _PARAMS:
                _check_encoder(file, role, language)


def _open(path: Path, architecture: str) -> GgufFile:
    file = GgufFile(path)
    if file.architecture != architecture:
        raise ModelFormatError(
            f"{path}: its architecture is {file.architecture!r}, {architecture} is needed; convert the model again"
        )
    version = scalar(file.metadata, FORMAT_VERSION_KEY, int, str(path))
    if version != FORMAT_VERSION:
        raise ModelFormatError(f"{path} has format version {version}, this Hearsee reads {FORMAT_VERSION}; update it")
    return file


def _check_encoder(file: GgufFile, role: str, language: GgufFile) -> None:
    params = _PARAMS[role].from_metadata(file.metadata, str(file.path))
    width = language.metadata["phi3.embedding_length"]
    if params.projection_length != width:
        raise ModelFormatError(
            f"{file.path} gives rows of {params.projection_length} values, {language.path.name} takes {width}: "
            "they are of different models; convert the model again"
        )


def _check_adapter(file: GgufFile, role: str, language: GgufFile) -> None:
    kind = (_text(file.metadata, "general.type"), _text(file.metadata, "adapter.type"))
    if kind != ("adapter", "lora"):
        raise ModelFormatError(f"{file.path} is not an adapter; convert the model again")
    stated = _text(file.metadata, "hearsee.adapter")
    if stated and f"{stated}_adapter" != role:
        raise ModelFormatError(f"{file.path} is the {stated} adapter where the {role.replace('_', ' ')} is needed")
    alpha = scalar(file.metadata, "adapter.lora.alpha", float, str(file.path))
    if not math.isfinite(alpha) or alpha == 0.0:
        raise ModelFormatError(f"{file.path}: adapter.lora.alpha is {alpha}; convert the model again")
    _check_adapter_shapes(file, language)


def _check_adapter_shapes(file: GgufFile, language: GgufFile) -> None:
    """Factors come in pairs whose product has the shape of a matrix of the language model."""
    matrices = {name: shape for name, shape in language_shapes(language).items() if len(shape) == 2}
    bases = dict.fromkeys(name.rsplit(".lora_", 1)[0] for name in file)
    for base in bases:
        first, second = (file.get(f"{base}.lora_{factor}") for factor in "ab")
        if first is None or second is None:
            raise ModelFormatError(f"{file.path}: {base} lacks one of its two factors; convert the model again")
        rows_and_columns = (second.shape[0], first.shape[-1])
        fits = len(first.shape) == len(second.shape) == 2 and first.shape[0] == second.shape[1]
        if not fits or matrices.get(base) != rows_and_columns:
            raise ModelFormatError(
                f"{file.path} was made for another model: {base} is {matrices.get(base)} in {language.path.name}, "
                f"the adapter's is {rows_and_columns}"
            )
    for tensor in file.values():
        check_type(file, tensor)
    if len(file) != 2 * len(bases) or not bases:
        raise ModelFormatError(f"{file.path} holds no adapter, or more than one; convert the model again")


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""
