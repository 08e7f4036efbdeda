"""Rows that pictures and sounds become, made once per content and kept within a memory budget.

A sound's encoder output is kept before the projector: when a picture turns a speech conversation
into a vision one, only the small projector runs again (phi4mm 2).
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from app.common.errors import MediaError, ModelFormatError
from app.runtime.audio.log_mel import frame_count, log_mel
from app.runtime.messages import Audio, Image
from app.runtime.vision.tiling import image_token_count, tile_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.formats.params import AudioParams, VisionParams
    from app.runtime.vision.tiling import Tiles

_logger = logging.getLogger("app.runtime.media")

Projector = Literal["speech", "vision"]
CancelFunction = Callable[[], bool] | None


class ImageEncoder(Protocol):
    """What pictures need of the vision encoder."""

    def encode(self, tiles: Tiles, cancel: CancelFunction = None) -> NDArray[np.float32]:
        """Rows of one picture, float32, shape (n_tokens, projection_length)."""


class SoundEncoder(Protocol):
    """What sounds need of the audio encoder."""

    def encode(self, log_mel: NDArray[np.float32], cancel: CancelFunction = None) -> NDArray[np.float32]:
        """Frames before the projector, float32, shape (ceil(n_frames / 8), embedding_length)."""

    def project(
        self, frames: NDArray[np.float32], projector: Projector, cancel: CancelFunction = None
    ) -> NDArray[np.float32]:
        """Rows of one sound, float32, shape (n_tokens, projection_length)."""


class ByteLimitedCache:
    """Arrays by key; the least recently used go when they exceed a number of bytes.

    Threads: any.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, ...], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def get(self, key: tuple[str, ...]) -> NDArray[np.float32] | None:
        """The array, now the most recently used; None if it is not here."""
        with self._lock:
            array = self._entries.get(key)
            if array is not None:
                self._entries.move_to_end(key)
            return array

    def put(self, key: tuple[str, ...], array: NDArray[np.float32]) -> None:
        """Keep an array, unless it alone exceeds the limit; it becomes read-only."""
        array.flags.writeable = False
        with self._lock:
            if key in self._entries or array.nbytes > self._max_bytes:
                return
            self._entries[key] = array
            self.held_bytes += array.nbytes
            while self.held_bytes > self._max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self.held_bytes -= dropped.nbytes


class MediaEncoder:
    """Counts and computes the rows of pictures and sounds of one model.

    Threads: counting from any; computing from one at a time.
    """

    def __init__(
        self,
        *,
        vision: tuple[VisionParams, Callable[[], ImageEncoder]] | None,
        audio: tuple[AudioParams, Callable[[], SoundEncoder]] | None,
        row_length: int,
        max_bytes: int,
    ) -> None:
        """Say how to open the encoders; they are opened when first needed.

        Args:
            vision: parameters and a function that gives the encoder; None if the model has none.
            audio: likewise.
            row_length: width of the language model.
            max_bytes: memory for kept rows.
        """
        self._vision, self._audio = vision, audio
        self._row_length = row_length
        self.cache = ByteLimitedCache(max_bytes)

    def count(self, medium: Image | Audio) -> int:
        """Rows of a picture or sound, without computing them.

        Raises:
            MediaError: it is too thin or too short.
            ModelFormatError: the model cannot see or hear.
        """
        try:
            return self._count(medium)
        except MediaError as error:
            raise MediaError(f"{medium.name}: {error}") from error

    def _count(self, medium: Image | Audio) -> int:
        if isinstance(medium, Image):
            height, width = medium.pixels.shape[:2]
            return image_token_count(width, height, self._vision_part()[0])
        params = self._audio_part()[0]
        return -(-frame_count(len(medium.samples), medium.rate_hz, params) // params.time_reduction)

    def has(self, medium: Image | Audio, projector: Projector) -> bool:
        """Whether :meth:`rows` will find these rows without encoding anything."""
        return self.cache.get(_key(medium, projector)) is not None

    def rows(self, medium: Image | Audio, projector: Projector, cancel: CancelFunction = None) -> NDArray[np.float32]:
        """Rows of a picture or sound, float32, shape (count, row_length), read-only.

        Args:
            medium: what to encode, unless its rows are kept.
            projector: for sounds: "vision" where the conversation holds a picture, else "speech".
            cancel: asked between the encoder's operations; True stops.

        Raises:
            MediaError: as :meth:`count`.
            ModelFormatError: as :meth:`count`, or the encoder's output does not fit the model.
            Cancelled: ``cancel`` said so; nothing is kept of what was cut short.
        """
        key = _key(medium, projector)
        rows = self.cache.get(key)
        if rows is None:
            if isinstance(medium, Image):
                rows = self._encode_image(medium, cancel)
            else:
                rows = self._project(medium, projector, cancel)
            rows = self._checked(rows, medium)
            self.cache.put(key, rows)
        return rows

    def _encode_image(self, image: Image, cancel: CancelFunction) -> NDArray[np.float32]:
        params, open_encoder = self._vision_part()
        return open_encoder().encode(tile_image(image.pixels, params), cancel)

    def _project(self, audio: Audio, projector: Projector, cancel: CancelFunction) -> NDArray[np.float32]:
        return self._audio_part()[1]().project(self._frames(audio, cancel), projector, cancel)

    def _frames(self, audio: Audio, cancel: CancelFunction) -> NDArray[np.float32]:
        """Encoder output before the projector, kept for the other projector."""
        key = ("frames", audio.content_hash)
        frames = self.cache.get(key)
        if frames is None:
            params, open_encoder = self._audio_part()
            frames = open_encoder().encode(log_mel(audio.samples, audio.rate_hz, params), cancel)
            self.cache.put(key, frames)
        return frames

    def _checked(self, rows: NDArray[np.float32], medium: Image | Audio) -> NDArray[np.float32]:
        expected = (self.count(medium), self._row_length)
        if rows.shape != expected:
            raise ModelFormatError(
                f"the encoder made rows of shape {rows.shape} of {medium.name}, {expected} are needed: "
                "encoder and language model do not belong together; verify the model"
            )
        return np.ascontiguousarray(rows, dtype=np.float32)

    def _vision_part(self) -> tuple[VisionParams, Callable[[], ImageEncoder]]:
        if self._vision is None:
            raise ModelFormatError("this model cannot see pictures; choose one with the mode vision")
        return self._vision

    def _audio_part(self) -> tuple[AudioParams, Callable[[], SoundEncoder]]:
        if self._audio is None:
            raise ModelFormatError("this model cannot hear; choose one with the mode speech")
        return self._audio


def _key(medium: Image | Audio, projector: Projector) -> tuple[str, ...]:
    return ("image", medium.content_hash) if isinstance(medium, Image) else (projector, medium.content_hash)
