"""Pictures and sounds that wait for their question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.runtime.audio.decode import load_audio
from app.runtime.vision.decode import load_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.assistant.attachments import Typed
    from app.runtime.messages import Part

_Key = tuple[str, int, int]


class Shelf:
    """Media by file; each file is decoded once, and again only when it changed.

    Threads: :meth:`load` may run on another thread than the rest.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, Callable[[Path], Part]]] = []
        self._decoded: dict[_Key, Part] = {}

    def add(self, typed: Typed) -> None:
        """Put the files of a typed line on the shelf.

        Raises:
            MediaError: a file cannot be decoded; none of them is put there.
        """
        self._add([*((path, load_image) for path in typed.images), *((path, load_audio) for path in typed.audios)])

    def add_image(self, path: Path) -> None:
        """Put one picture there, whatever its suffix; raises MediaError."""
        self._add([(path, load_image)])

    def add_audio(self, path: Path) -> None:
        """Put one sound there, whatever its suffix; raises MediaError."""
        self._add([(path, load_audio)])

    def names(self) -> list[str]:
        """File names of what waits."""
        return [path.name for path, _ in self._waiting]

    def parts(self) -> list[Part]:
        """What waits, decoded."""
        return [self._decode(path, decoder) for path, decoder in self._waiting]

    def with_typed(self, typed: Typed) -> list[Part]:
        """What waits and what a line names that is still being typed."""
        images = [self._decode(path, load_image) for path in typed.images]
        return [*self.parts(), *images, *(self._decode(path, load_audio) for path in typed.audios)]

    def take(self) -> list[Part]:
        """What waits; the shelf is empty afterwards."""
        parts = self.parts()
        self.clear()
        return parts

    def clear(self) -> None:
        """Empty the shelf."""
        self._waiting.clear()
        self._decoded.clear()

    def _add(self, files: list[tuple[Path, Callable[[Path], Part]]]) -> None:
        for path, decoder in files:
            self._decode(path, decoder)
        self._waiting += files

    def _decode(self, path: Path, decoder: Callable[[Path], Part]) -> Part:
        try:
            state = path.stat()
        except OSError:
            return decoder(path)  # says what is wrong with it
        key = (str(path), state.st_mtime_ns, state.st_size)
        if key not in self._decoded:
            self._decoded[key] = decoder(path)
        return self._decoded[key]
