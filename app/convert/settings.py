"""Typed access to the JSON files beside a checkpoint, with errors that name file and key."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.common.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

T = TypeVar("T")
_MAX_BYTES = 1 << 28
_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Settings:
    """One JSON object, or one nested in it.

    Attributes:
        values: the parsed object.
        source: file, and the path of keys inside it, for messages.
    """

    values: dict[str, Any]
    source: str

    def __contains__(self, key: str) -> bool:
        """Whether ``key`` is there and not null."""
        return self.values.get(key) is not None

    def section(self, key: str) -> Settings:
        """The nested object ``key``; empty when absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, "is not an object")
        return Settings(value or {}, f"{self.source}: {key}")

    def integer(self, key: str, default: int = _REQUIRED, most: int = 2**31 - 1) -> int:
        """A whole number from 0 to ``most``."""
        value: Any = self._get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not 0 <= value <= most:
            raise self.error(key, f"is {value!r} where a whole number up to {most} is needed")
        return value

    def number(self, key: str, default: float = _REQUIRED) -> float:
        """A finite number."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.error(key, f"is {value!r} where a number is needed")
        return float(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self._get(key, _REQUIRED)
        if not isinstance(value, list) or not all(type(n) in (int, float) and math.isfinite(n) for n in value):
            raise self.error(key, "is not a list of numbers")
        return tuple(map(float, value))

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A string."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"is {value!r} where a string is needed")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._get(key, default)
        if type(value) is not bool:
            raise self.error(key, f"is {value!r} where true or false is needed")
        return value

    def side(self, key: str, default: int) -> int:
        """The side of a square, given as one number, two equal ones, or height and width."""
        value = self._get(key, default)
        if isinstance(value, dict):
            value = [value.get("height"), value.get("width")]
        sides = value if isinstance(value, list) else [value]
        if not sides or len(set(map(repr, sides))) != 1:
            raise self.error(key, f"is {value!r}; only squares are supported")
        return Settings({key: sides[0]}, self.source).integer(key)

    def only(self, key: str, supported: Collection[object]) -> None:
        """Refuse a stated value that is not supported; absent and null are fine."""
        value = self.values.get(key)
        if value is not None and value not in supported:
            known = " or ".join(str(option) for option in supported)
            raise self.error(key, f"is {value!r}; only {known} is supported")

    def error(self, key: str, problem: str) -> ConversionError:
        """A ready error about one key."""
        return ConversionError(f"{self.source}: {key} {problem}")

    def _get(self, key: str, default: T) -> T:
        value: T | None = self.values.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise self.error(key, "is missing")
        return default


def read_settings(path: Path, *, optional: bool = False) -> Settings:
    """Parse a JSON file that holds one object.

    Args:
        path: the file.
        optional: an absent file reads as an empty object.

    Raises:
        ConversionError: the file is missing, too large, or not a JSON object.
    """
    if optional and not path.exists():
        return Settings({}, str(path))
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConversionError(f"{path} is too large for a settings file")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror}; is this the checkpoint's folder?") from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConversionError(f"{path} does not hold a JSON object")
    return Settings(values, str(path))
