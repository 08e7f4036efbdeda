"""``/speak``: a question by microphone, in the terminal."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from app.capture.listen import record_utterance
from app.capture.microphone import PortAudioMicrophone
from app.capture.segmenter import State
from app.capture.vad import RATE_HZ
from app.cli.output import Progress
from app.runtime.messages import Audio

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.capture.microphone import Microphone

_SHOWN = {State.WAITING: "listening ... (Ctrl-C ends)", State.SPEAKING: "hearing you ... (Ctrl-C ends)"}


def record_question(
    device: str | None = None, open_microphone: Callable[[str | None], Microphone] = PortAudioMicrophone
) -> Audio | None:
    """What a person says until a pause or Ctrl-C; None when nothing was said.

    Args:
        device: name of a microphone; None for the system's default.
        open_microphone: makes the microphone from that name.

    Raises:
        CaptureError: there is no microphone, or it failed.
    """
    ended = threading.Event()
    progress = Progress()
    before = signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        samples = record_utterance(
            open_microphone(device),
            on_state=lambda state: progress.show(_SHOWN[state]),
            should_stop=ended.is_set,
        )
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        progress.clear()
    return None if samples is None else Audio.from_samples(samples, RATE_HZ, "microphone")
