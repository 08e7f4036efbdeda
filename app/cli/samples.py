"""The bundled samples: what Hearsee answers when there is no terminal to type into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from app.common.errors import ConfigError
from app.common.paths import resources_dir
from app.runtime.messages import Text

if TYPE_CHECKING:
    from pathlib import Path

    from app.runtime.messages import Part


@dataclass(frozen=True, slots=True)
class Sample:
    """One question.

    Attributes:
        about: what it is, in words for the person who reads along.
        image: a picture or None.
        audio: a sound or None.
        text: typed words, may be empty.
        expected: a right answer contains this, whatever the case.
    """

    about: str
    image: Path | None = None
    audio: Path | None = None
    text: str = ""
    expected: str = ""

    def parts(self) -> list[Part]:
        """The decoded question.

        Raises:
            MediaError: a file is missing or damaged.
        """
        from app.runtime.audio.decode import load_audio
        from app.runtime.vision.decode import load_image

        images = [load_image(self.image)] if self.image else []
        audios = [load_audio(self.audio)] if self.audio else []
        return [*images, *audios, *([Text(self.text)] if self.text else [])]


def samples_path() -> Path:
    """The list of the samples."""
    return resources_dir() / "samples" / "samples.yaml"


def load_samples(path: Path | None = None) -> list[Sample]:
    """Read the list (docs/architecture.md, "The bundled samples").

    Raises:
        ConfigError: the list is missing or not readable: Hearsee is not completely installed.
    """
    path = path or samples_path()
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["samples"]
        return [_sample(entry, path.parent) for entry in entries]
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the bundled samples in {path}; install Hearsee again") from error


def _sample(entry: dict[str, str], folder: Path) -> Sample:
    files = {kind: folder / entry[kind] for kind in ("image", "audio") if entry.get(kind)}
    return Sample(entry["about"], text=entry.get("text") or "", expected=entry.get("expected") or "", **files)
