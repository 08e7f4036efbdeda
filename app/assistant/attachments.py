"""Finds pictures and sounds among the words a person types, pastes or drops into a terminal.

A terminal gives a dropped file as its path: bare, quoted, with backslashes before blanks, or as a
``file://`` address. Only a path of an existing file with a media suffix counts, so that a word
of the question is never taken away by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

IMAGE_SUFFIXES = frozenset(
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".ppm",
        ".pgm",
        ".ico",
        ".svg",
    )
)
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".webm", ".mka", ".wma", ".aif", ".aiff", ".amr")
) | {".mp4", ".mkv", ".mov"}  # the sound of a film

# A quoted piece, or characters that are not blanks, where a backslash takes the next one along.
_PIECE = re.compile(r'"[^"\n]+"|\'[^\'\n]+\'|(?:\\.|[^\s\\])+')
_ESCAPE = re.compile(r"\\(.)")
_CLOSING = ".,;:!?)]}"


@dataclass(frozen=True, slots=True)
class Typed:
    """A line taken apart.

    Attributes:
        text: what is left when the paths are taken out.
        images: existing pictures, in the order typed.
        audios: existing sounds, in the order typed.
    """

    text: str
    images: tuple[Path, ...] = ()
    audios: tuple[Path, ...] = ()

    @property
    def has_media(self) -> bool:
        """Whether any file was named."""
        return bool(self.images or self.audios)


def take_apart(line: str) -> Typed:
    """Separate the words of ``line`` from the media files it names."""
    whole = _media_path(line.strip())
    if whole is not None:  # a dropped path with bare blanks in it
        return _typed("", [whole])
    paths: list[Path] = []

    def take(match: re.Match[str]) -> str:
        piece = match.group()
        for candidate, rest in ((piece, ""), (piece.rstrip(_CLOSING), piece[len(piece.rstrip(_CLOSING)) :])):
            path = _media_path(candidate)
            if path is not None:
                paths.append(path)
                return rest
        return piece

    text = _PIECE.sub(take, line)
    return _typed(" ".join(text.split()) if paths else line.strip(), paths)


def _typed(text: str, paths: list[Path]) -> Typed:
    images = tuple(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES)
    audios = tuple(path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES)
    return Typed(text, images, audios)


def _media_path(piece: str) -> Path | None:
    path = as_path(piece)
    if path.suffix.lower() not in IMAGE_SUFFIXES | AUDIO_SUFFIXES:
        return None
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long, or a null character: not a path
        return None


def as_path(piece: str) -> Path:
    """The path a person means by ``piece``: quotes, backslashes, ``~`` and ``file://`` undone."""
    piece = piece.strip()
    if piece.startswith("file://"):
        return Path(unquote(urlsplit(piece).path))
    if len(piece) > 1 and piece[0] == piece[-1] and piece[0] in "\"'":
        piece = piece[1:-1]
    elif not Path(piece).exists() if _short(piece) else False:
        piece = _ESCAPE.sub(r"\1", piece)
    return _expand(Path(piece))


def _short(piece: str) -> bool:
    return len(piece) < 4096 and "\0" not in piece


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~ of nobody
        return path
