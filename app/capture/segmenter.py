"""Cuts a stream of sound into utterances: where speech begins, and where it has ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from app.capture.vad import FRAME_SAMPLES, RATE_HZ
from app.common.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from app.capture.vad import VoiceDetector

_FRAME_MS = 1000 * FRAME_SAMPLES // RATE_HZ


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """Times in milliseconds; multiples of a frame of 20 ms.

    Attributes:
        onset_ms: so much speech within ``onset_window_ms`` begins an utterance; a click does not.
        onset_window_ms: see above.
        pre_roll_ms: kept from before the onset, so that a soft first sound is not lost.
        hangover_ms: so much silence ends the utterance.
        longest_ms: then it ends anyway.
    """

    onset_ms: int = 100
    onset_window_ms: int = 160
    pre_roll_ms: int = 500
    hangover_ms: int = 600
    longest_ms: int = 30_000

    def __post_init__(self) -> None:
        """The sounds that made the onset belong to the utterance."""
        if self.pre_roll_ms < self.onset_window_ms:
            raise ConfigError(
                f"a pre-roll of {self.pre_roll_ms} ms is shorter than the onset window of {self.onset_window_ms} ms"
            )


class State(Enum):
    """What the segmenter is doing."""

    WAITING = auto()
    SPEAKING = auto()


class Segmenter:
    """Takes samples in chunks of any size and gives complete utterances; the chunking changes nothing."""

    def __init__(self, detector: VoiceDetector, options: SegmenterOptions | None = None) -> None:
        """Begin waiting for speech."""
        self._detector = detector
        self._options = options or SegmenterOptions()
        self._partial = np.zeros(0, np.float32)
        self._recent: deque[bool] = deque(maxlen=self._options.onset_window_ms // _FRAME_MS)
        self._pre_roll: deque[NDArray[np.float32]] = deque(maxlen=self._options.pre_roll_ms // _FRAME_MS)
        self._frames: list[NDArray[np.float32]] = []
        self._silent_ms = 0

    @property
    def state(self) -> State:
        """Waiting for speech, or within an utterance."""
        return State.SPEAKING if self._frames else State.WAITING

    def push(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Take samples, float32 at 16 kHz, shape (n,); yield each utterance that ended, of the same kind."""
        joined = np.concatenate([self._partial, samples])
        whole = len(joined) // FRAME_SAMPLES * FRAME_SAMPLES
        self._partial = joined[whole:]
        for frame in joined[:whole].reshape(-1, FRAME_SAMPLES):
            if self._take(frame):
                yield self._end()

    def finish(self) -> NDArray[np.float32] | None:
        """The utterance so far, if one had begun: the speaker pressed a key, or the sound ended."""
        return self._end() if self._frames else None

    def _take(self, frame: NDArray[np.float32]) -> bool:
        """Whether the utterance ended with this frame."""
        speech = self._detector.is_speech(frame)
        if self.state is State.WAITING:
            self._wait(frame, speech)
            return False
        self._frames.append(frame)
        self._silent_ms = 0 if speech else self._silent_ms + _FRAME_MS
        too_long = len(self._frames) * _FRAME_MS >= self._options.longest_ms
        return too_long or self._silent_ms >= self._options.hangover_ms

    def _wait(self, frame: NDArray[np.float32], speech: bool) -> None:
        self._recent.append(speech)
        self._pre_roll.append(frame)
        if sum(self._recent) * _FRAME_MS >= self._options.onset_ms:
            self._frames = list(self._pre_roll)

    def _end(self) -> NDArray[np.float32]:
        utterance = np.concatenate(self._frames)
        self._frames = []
        self._silent_ms = 0
        self._recent.clear()
        self._pre_roll.clear()
        return utterance
