"""The suite of a validation: cases of messages with media files and the answer to force.

``suite.yaml`` in a directory, file names relative to it::

    cases: [{id, messages: [{role, parts: [{text: ...} | {image: file} | {audio: file}]}], answer}]

Every complaint names the case and the key.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import yaml

from app.common.errors import ValidationError

SUITE_NAME = "suite.yaml"
MAX_SUITE_BYTES = 64 * 2**20
PartKind = Literal["text", "image", "audio"]
RoleName = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class CasePart:
    """One part of a message: ``value`` is the text itself or the path of the media file."""

    kind: PartKind
    value: str


@dataclass(frozen=True, slots=True)
class CaseMessage:
    """One message of a case."""

    role: RoleName
    parts: tuple[CasePart, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation and the answer forced after it."""

    id: str
    messages: tuple[CaseMessage, ...]
    answer: str

    @property
    def mode(self) -> str:
        """``text``, ``speech``, ``vision`` or ``vision_speech``, from the media in the messages."""
        kinds = {part.kind for message in self.messages for part in message.parts}
        names = [name for kind, name in (("image", "vision"), ("audio", "speech")) if kind in kinds]
        return "_".join(names) or "text"


def load_suite(directory: Path) -> list[Case]:
    """Read and check ``suite.yaml`` of ``directory``; media files must exist but are not decoded.

    Raises:
        ValidationError: the file is missing, no YAML, or a case is unusable; the message names case and key.
    """
    path = directory / SUITE_NAME
    cases = _entries(_mapping(_read_yaml(path), str(path)), "cases", str(path))
    if not cases:
        raise ValidationError(f"{path}: 'cases' is empty; give at least one case")
    loaded = [_case(case, index, directory) for index, case in enumerate(cases, 1)]
    _check_unique([case.id for case in loaded], path)
    return loaded


def _read_yaml(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_SUITE_BYTES:
            raise ValidationError(f"{path}: larger than {MAX_SUITE_BYTES >> 20} MiB; split the suite")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValidationError(
            f"{path}: cannot be read ({error.strerror}); give a directory that holds {SUITE_NAME}"
        ) from error
    except RecursionError as error:
        raise ValidationError(f"{path}: nested too deeply; see docs/fidelity.md for the form") from error
    except (yaml.YAMLError, ValueError) as error:
        first_line = " ".join(str(error).split())
        raise ValidationError(f"{path}: is not valid YAML ({first_line}); correct it") from error


def _case(value: object, index: int, directory: Path) -> Case:
    where = f"{directory / SUITE_NAME}: case {index}"
    case = _mapping(value, where)
    name = _identifier(case, where)
    where = f"{directory / SUITE_NAME}: case '{name}'"
    messages = tuple(
        _message(m, f"{where}: messages[{i}]", directory) for i, m in enumerate(_entries(case, "messages", where))
    )
    if not messages:
        raise ValidationError(f"{where}: 'messages' is empty; give at least one message")
    return Case(name, messages, _string(case, "answer", where))


def _identifier(case: dict[str, Any], where: str) -> str:
    value = case.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValidationError(f"{where}: 'id' must be printable text, found {_shown(value)}")
    if value.startswith("/") or ".." in value.split("/"):
        raise ValidationError(f"{where}: 'id' {_shown(value)} looks like a path; use a plain name")
    return value


def _message(value: object, where: str, directory: Path) -> CaseMessage:
    message = _mapping(value, where)
    _only(message, ("role", "parts"), where)
    role: Any = message.get("role")
    if role not in get_args(RoleName):
        raise ValidationError(f"{where}: 'role' is {_shown(role)}; use one of {', '.join(get_args(RoleName))}")
    parts = _entries(message, "parts", where)
    return CaseMessage(role, tuple(_part(part, f"{where}: parts[{i}]", directory) for i, part in enumerate(parts)))


def _part(value: object, where: str, directory: Path) -> CasePart:
    part = _mapping(value, where)
    if len(part) != 1 or next(iter(part)) not in get_args(PartKind):
        raise ValidationError(
            f"{where}: has the keys {_shown(list(part))}; use exactly one of {', '.join(get_args(PartKind))}"
        )
    kind: Any = next(iter(part))
    text = _string(part, kind, where)
    return CasePart(kind, text if kind == "text" else _media_path(text, f"{where}: {kind}", directory))


def _media_path(name: str, where: str, directory: Path) -> str:
    relative = PurePosixPath(name)
    if not name or "\0" in name or relative.is_absolute() or ".." in relative.parts:
        raise ValidationError(
            f"{where}: {_shown(name)} is not a file name relative to the suite; keep media in its directory"
        )
    path = directory / relative
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise ValidationError(f"{where}: {_shown(name)} cannot be read; put the file into {directory}") from error
    if not regular:
        raise ValidationError(f"{where}: {_shown(name)} is not a regular file; name a media file")
    return str(path)


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValidationError(f"{where}: must be a mapping with text keys, found {_shown(value)}")
    return value


def _entries(mapping: dict[str, Any], key: str, where: str) -> list[object]:
    value = mapping.get(key)
    if not isinstance(value, list):
        raise ValidationError(f"{where}: '{key}' must be a list, found {_shown(value)}")
    return value


def _string(mapping: dict[str, Any], key: str, where: str) -> str:
    value = mapping.get(key)
    if not isinstance(value, str):
        raise ValidationError(f"{where}: '{key}' must be text, found {_shown(value)}; put it in quotes")
    return value


def _only(mapping: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    extra = [key for key in mapping if key not in keys]
    if extra:
        raise ValidationError(f"{where}: unknown key {_shown(extra[0])}; use {', '.join(keys)}")


def _check_unique(ids: list[str], path: Path) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise ValidationError(f"{path}: case '{name}': 'id' is used twice; give every case its own")
        seen.add(name)


def _shown(value: object) -> str:
    try:
        text = "nothing" if value is None else ascii(value)
    except RecursionError:
        text = "an endless structure"
    return text if len(text) <= 60 else text[:57] + "..."
