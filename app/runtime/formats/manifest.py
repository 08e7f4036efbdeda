"""``model.yaml``: what a model directory holds and what it is good for."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from app.common.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST_FILE = "model.yaml"
FORMAT = 1
MODES = ("text", "speech", "vision", "vision_speech")
ROLES_OF_MODE: dict[str, tuple[str, ...]] = {
    "text": ("language",),
    "speech": ("language", "speech_adapter", "audio_encoder"),
    "vision": ("language", "vision_adapter", "vision_encoder"),
    "vision_speech": ("language", "vision_adapter", "vision_encoder", "audio_encoder"),
}
ROLES = ("language", "vision_adapter", "speech_adapter", "vision_encoder", "audio_encoder")
_MAX_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model.

    Attributes:
        path: file name inside the directory, no folders.
        bytes: its size.
        sha256: 64 lower-case hex digits.
        type: type of its matrices, as ``hearsee convert --type`` calls it.
    """

    path: str
    bytes: int
    sha256: str
    type: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What the assistant offers with this model."""

    context_tokens: int
    audio_s: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of ``model.yaml``.

    Attributes:
        languages: ISO codes by kind of input: ``text``, ``audio``, ``vision``.
        files: by role, see ROLES.
    """

    name: str
    source: str
    revision: str
    licence: str
    modes: tuple[str, ...]
    languages: Mapping[str, tuple[str, ...]]
    limits: Limits
    quantization: str
    files: Mapping[str, FileEntry]
    system_message: str = ""
    format: int = field(default=FORMAT)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that the modes need, in canonical order."""
        needed = {role for mode in self.modes for role in ROLES_OF_MODE[mode]}
        return tuple(role for role in ROLES if role in needed)

    def to_yaml(self) -> str:
        """The text of ``model.yaml``; the same manifest gives the same text."""
        values = asdict(self)
        ordered = {"format": values.pop("format")} | values
        ordered["modes"] = list(self.modes)
        ordered["languages"] = {kind: list(codes) for kind, codes in self.languages.items()}
        return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=120)


def read_manifest(directory: Path) -> Manifest:
    """Read and check ``model.yaml``.

    Raises:
        ModelFormatError: the file is missing or malformed, naming the field.
    """
    path = directory / MANIFEST_FILE
    return _Reader(_parse(path), str(path)).manifest()


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelFormatError(f"{path} is too large; install or convert the model again")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFormatError(f"{path.parent} is not a model directory: {MANIFEST_FILE}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelFormatError(f"{path} is not YAML: {reason}") from error
    if not isinstance(values, dict):
        raise ModelFormatError(f"{path} does not hold named fields; install or convert the model again")
    return values


class _Reader:
    """Picks checked fields out of parsed YAML."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def manifest(self) -> Manifest:
        if self.integer("format") != FORMAT:
            raise self.error("format", f"is {self.values['format']}; this Hearsee reads format {FORMAT}")
        modes = self.modes()
        manifest = Manifest(
            name=self.text("name"),
            source=self.text("source", ""),
            revision=self.text("revision", ""),
            licence=self.text("licence", ""),
            modes=modes,
            languages=self.languages(),
            limits=Limits(**{key: self.section("limits").positive(key) for key in ("context_tokens", "audio_s")}),
            quantization=self.text("quantization", ""),
            files=self.files(),
            system_message=self.text("system_message", ""),
        )
        missing = [role for role in manifest.roles if role not in manifest.files]
        if missing:
            raise self.error("files", f"lacks {', '.join(missing)}, which its modes need")
        return manifest

    def error(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self.source}: {key} {problem}")

    def section(self, key: str) -> _Reader:
        value = self.values.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "is missing or holds no named fields")
        return _Reader(value, f"{self.source}: {key}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "is missing or not a text; quote it if it is")
        return value

    def integer(self, key: str) -> int:
        value = self.values.get(key)
        if type(value) is not int:
            raise self.error(key, "is missing or not a whole number")
        return value

    def positive(self, key: str) -> int:
        value = self.integer(key)
        if not 0 < value < 2**62:
            raise self.error(key, f"has the impossible value {value}")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "is not a list of texts")
        return tuple(value)

    def modes(self) -> tuple[str, ...]:
        modes = self.strings("modes")
        if not modes or not set(modes) <= set(MODES):
            raise self.error("modes", f"must be some of {', '.join(MODES)}")
        return modes

    def languages(self) -> dict[str, tuple[str, ...]]:
        if self.values.get("languages") is None:
            return {}
        section = self.section("languages")
        return {str(kind): section.strings(kind) for kind in section.values}

    def files(self) -> dict[str, FileEntry]:
        section = self.section("files")
        unknown = [str(role) for role in section.values if role not in ROLES]
        if unknown:
            raise self.error("files", f"has the unknown entries {', '.join(unknown)}")
        return {role: section.section(role).file() for role in section.values}

    def file(self) -> FileEntry:
        entry = FileEntry(self.text("path"), self.positive("bytes"), self.text("sha256"), self.text("type", ""))
        if not _FILE_NAME.fullmatch(entry.path):
            raise self.error("path", f"{entry.path!r} is not a plain file name")
        if not _SHA256.fullmatch(entry.sha256):
            raise self.error("sha256", "is not 64 lower-case hex digits")
        return entry
