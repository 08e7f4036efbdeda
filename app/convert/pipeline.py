"""Convert a checkpoint folder to a model directory."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from app.common.errors import ConversionError, NativeCallError
from app.convert import audio, language, vision
from app.convert.checkpoint import Checkpoint
from app.convert.expected import expected_tensors
from app.convert.gguf_writer import write_gguf
from app.convert.quantize import quantize_language
from app.convert.tokens import TokenizerData, read_tokenizer
from app.convert.types import conversion_type
from app.runtime.formats.checksum import remember, sha256_of
from app.runtime.formats.ggml_types import GgmlType
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.manifest import MANIFEST_FILE, MODES, FileEntry, Limits, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from app.convert.config import AdapterName
    from app.convert.gguf_writer import PlannedTensor
    from app.convert.types import ConversionType

    Progress = Callable[[str, int, int], None]

FILES = {
    "language": "language.gguf",
    "vision_adapter": "vision-adapter.gguf",
    "speech_adapter": "speech-adapter.gguf",
    "vision_encoder": "vision-encoder.gguf",
    "audio_encoder": "audio-encoder.gguf",
}
TEMPORARY_FILE = "language-full.tmp"
MAX_AUDIO_S = 1800
_AUDIO_TOKENS_PER_S = 12.5


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a checkpoint's files do not say about it; all of it lands in ``model.yaml``.

    Attributes:
        name: None takes the name of the output folder.
        source: None takes the name of the checkpoint's folder.
        context_tokens, audio_s: None takes what the model itself allows.
    """

    name: str | None = None
    source: str | None = None
    revision: str = ""
    licence: str = ""
    languages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context_tokens: int | None = None
    audio_s: int | None = None
    system_message: str = ""


def convert(
    source: Path,
    out: Path,
    type_name: str = "q8_0",
    progress: Progress | None = None,
    *,
    card: ModelCard | None = None,
    force: bool = False,
) -> Manifest:
    """Convert ``source`` and leave a complete model directory at ``out``, or nothing.

    Args:
        source: checkpoint folder in the original or the native layout.
        out: must not exist yet, or be empty.
        type_name: see :data:`app.convert.types.CONVERSION_TYPES`.
        progress: called with the stage's name, bytes done, and bytes in total; may raise Cancelled.
        card: description of the model.
        force: replace an existing model directory at ``out``.

    Returns:
        The manifest as written.

    Raises:
        ConversionError: the checkpoint is unusable or ``out`` cannot be written; nothing is left behind.
        ConfigError: ``type_name`` is unknown.
        NativeCallError: libllama's quantizer failed.
    """
    chosen, out = conversion_type(type_name), out.resolve()
    _check_places(source, out, force)
    with Checkpoint(source) as checkpoint, _building(out, force) as partial_folder:
        job = _Job(checkpoint, partial_folder, chosen, progress or (lambda stage, done, total: None))
        manifest = job.run(card or ModelCard(), out.name)
    for entry in manifest.files.values():
        remember(out / entry.path, entry.sha256)
    return manifest


def _check_places(source: Path, out: Path, force: bool) -> None:
    if not source.is_dir():
        raise ConversionError(f"{source} is not a folder; give the folder that holds config.json")
    if not out.exists():
        return
    if not out.is_dir():
        raise ConversionError(f"{out} exists and is not a folder; choose another name")
    is_model = (out / MANIFEST_FILE).is_file()
    if any(out.iterdir()) and not (is_model and force):
        hint = "use --force to replace it" if is_model else "choose another name"
        raise ConversionError(f"{out} exists and is not empty; {hint}")


@contextmanager
def _building(out: Path, force: bool) -> Iterator[Path]:
    """A fresh folder beside ``out`` that becomes ``out`` when all went well and vanishes when not."""
    building = out.with_name(out.name + ".partial")
    try:
        _remove_leftover(building)
        building.mkdir(parents=True)
        try:
            yield building
            _move_into_place(building, out, force)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise ConversionError(
            f"{out} cannot be written: {error.strerror or error}; free some space or choose another place"
        ) from error


def _remove_leftover(building: Path) -> None:
    """Remove what a killed conversion left; anything else at that place is the user's."""
    if not building.exists():
        return
    ours = {*FILES.values(), TEMPORARY_FILE, MANIFEST_FILE}
    if not building.is_dir() or any(path.name not in ours for path in building.iterdir()):
        raise ConversionError(f"{building} is in the way; move it and try again")
    shutil.rmtree(building)


def _move_into_place(building: Path, out: Path, force: bool) -> None:
    for path in building.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _sync_folder(building)
    old = out.with_name(out.name + ".old")
    if force and out.exists():
        out.replace(old)
    elif out.exists():
        out.rmdir()
    building.replace(out)
    _sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Make names durable; Windows has no such call and needs none."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Job:
    """One conversion: the open checkpoint, the folder being filled, and the choices made."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, chosen: ConversionType, progress: Progress) -> None:
        self._checkpoint = checkpoint
        self._folder = folder
        self._type = chosen
        self._progress = progress
        self._magnitudes: dict[str, float] = {}

    def run(self, card: ModelCard, default_name: str) -> Manifest:
        """Write every file and the manifest."""
        config = self._checkpoint.config
        tokenizer = read_tokenizer(self._checkpoint.folder, config)
        self._magnitudes = self._checkpoint.check(partial(self._progress, "check"))
        self._write(
            "vision_encoder", vision.ARCHITECTURE, vision.vision_params(config).to_metadata(), vision.vision_tensors
        )
        self._write("audio_encoder", audio.ARCHITECTURE, audio.audio_params(config).to_metadata(), audio.audio_tensors)
        for adapter in config.adapters:
            self._write_adapter(adapter)
        self._write_language(tokenizer)
        manifest = self._manifest(card, default_name)
        (self._folder / MANIFEST_FILE).write_text(manifest.to_yaml(), encoding="utf-8")
        return manifest

    def _write(
        self,
        role: str,
        architecture: str,
        metadata: Mapping[str, Any],
        make_plan: Callable[[Checkpoint, GgmlType, Mapping[str, float]], list[PlannedTensor]],
    ) -> None:
        plan = make_plan(self._checkpoint, self._type.encoder, self._magnitudes)
        self._write_plan(FILES[role], architecture, metadata, plan)

    def _write_adapter(self, adapter: AdapterName) -> None:
        metadata = language.adapter_metadata(self._checkpoint, adapter)
        plan = language.adapter_tensors(self._checkpoint, adapter, self._type.encoder, self._magnitudes)
        self._write_plan(FILES[f"{adapter}_adapter"], language.ARCHITECTURE, metadata, plan)

    def _write_plan(self, name: str, architecture: str, metadata: Mapping[str, Any], plan: list[PlannedTensor]) -> None:
        total, done = sum(tensor.n_bytes for tensor in plan), 0

        def count(n_bytes: int) -> None:
            nonlocal done
            done += n_bytes
            self._progress(name, done, total)

        write_gguf(self._folder / name, architecture, metadata, plan, count)

    def _write_language(self, tokenizer: TokenizerData) -> None:
        config, name = self._checkpoint.config.language, FILES["language"]
        full_type = self._full_type() if self._type.is_quantized else self._type.encoder
        file_type = {GgmlType.F32: 0, GgmlType.F16: 1, GgmlType.BF16: 32}[full_type]
        metadata = language.language_metadata(config, tokenizer, file_type)
        plan = language.language_tensors(self._checkpoint, full_type, self._magnitudes)
        written = TEMPORARY_FILE if self._type.is_quantized else name
        self._write_plan(written, language.ARCHITECTURE, metadata, plan)
        if self._type.is_quantized:
            self._quantize(name)

    def _full_type(self) -> GgmlType:
        """The type that holds the checkpoint's own values exactly, for the file the quantizer reads."""
        names = (name for name in expected_tensors(self._checkpoint.config) if name.startswith("model.layers."))
        return {"BF16": GgmlType.BF16, "F16": GgmlType.F16}.get(self._checkpoint.stored_type(names), GgmlType.F32)

    def _quantize(self, name: str) -> None:
        """The temporary full-precision file becomes the quantized one."""
        temporary, target = self._folder / TEMPORARY_FILE, self._folder / name
        n_bytes = temporary.stat().st_size
        self._progress("quantize", 0, n_bytes)
        try:
            quantize_language(temporary, target, self._type.file_type)
        except NativeCallError:
            if shutil.disk_usage(self._folder).free < n_bytes:  # libllama does not say why a write failed
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            raise
        temporary.unlink()
        self._progress("quantize", n_bytes, n_bytes)
        GgufFile(target).close()  # a full disk must not pass unnoticed

    def _manifest(self, card: ModelCard, default_name: str) -> Manifest:
        context = self._checkpoint.config.language.context_length
        audio_s = min(MAX_AUDIO_S, int(context / _AUDIO_TOKENS_PER_S))
        return Manifest(
            name=card.name or default_name,
            source=self._checkpoint.folder.resolve().name if card.source is None else card.source,
            revision=card.revision,
            licence=card.licence,
            modes=MODES,
            languages=card.languages,
            limits=Limits(min(card.context_tokens or context, context), max(1, min(card.audio_s or audio_s, audio_s))),
            quantization=self._type.name,
            files={role: self._entry(role, name) for role, name in FILES.items()},
            system_message=card.system_message,
        )

    def _entry(self, role: str, name: str) -> FileEntry:
        path = self._folder / name
        kind = self._type.name if role == "language" else self._type.encoder.name.lower()
        size, done = path.stat().st_size, 0

        def count(n_bytes: int) -> None:
            nonlocal done
            done += n_bytes
            self._progress(f"checksum of {name}", done, size)

        return FileEntry(name, size, sha256_of(path, count), kind)
