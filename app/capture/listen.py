"""From a microphone to one spoken utterance, ready for the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from app.capture.segmenter import Segmenter, SegmenterOptions, State
from app.capture.vad import RATE_HZ, VoiceDetector, WebRtcDetector
from app.common.resample import Resampler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.capture.microphone import Microphone


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """How long to listen.

    Attributes:
        wait_s: without speech for so long, listening ends with nothing.
        segmenter: when an utterance begins and ends.
    """

    wait_s: float = 10.0
    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions)


def record_utterance(
    microphone: Microphone,
    *,
    options: ListenOptions | None = None,
    detector: VoiceDetector | None = None,
    on_state: Callable[[State], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float32] | None:
    """Listen until somebody has said something; blocks the calling thread.

    Args:
        microphone: not yet entered; it records from here until the return.
        options: times.
        detector: tells speech from other sound; WebRTC's by default.
        on_state: called when the state changes, first with WAITING.
        should_stop: asked every few hundredths of a second; True ends the recording, and what
            was said so far is the utterance.

    Returns:
        float32 at 16 kHz, shape (n_samples,), full scale [-1, 1]; None when nobody spoke.

    Raises:
        CaptureError: the microphone or the detector failed.
    """
    options = options or ListenOptions()
    segmenter = Segmenter(detector or WebRtcDetector(), options.segmenter)
    resampler = Resampler(microphone.rate_hz, RATE_HZ)
    states = _StateReport(on_state)
    waited_samples = 0
    with microphone:
        while not should_stop():
            states.report(segmenter.state)
            samples = (resampler.push(microphone.read()) / 32768.0).astype(np.float32)
            for utterance in segmenter.push(samples):
                return utterance
            waited_samples += len(samples)
            if segmenter.state is State.WAITING and waited_samples > options.wait_s * RATE_HZ:
                return None
    return segmenter.finish()


class _StateReport:
    """Calls back on changes only."""

    def __init__(self, on_state: Callable[[State], None] | None) -> None:
        self._on_state = on_state
        self._last: State | None = None

    def report(self, state: State) -> None:
        if self._on_state and state is not self._last:
            self._on_state(state)
        self._last = state
