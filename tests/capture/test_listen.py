from __future__ import annotations

import numpy as np
import pytest

from app.capture.fakes import FileMicrophone
from app.capture.listen import ListenOptions, record_utterance
from app.capture.segmenter import State
from app.common.errors import CaptureError


class LoudIsSpeech:
    def is_speech(self, frame: np.ndarray) -> bool:
        return bool(np.abs(frame).max() > 0.1)


def spoken(rate_hz: int, before_s: float = 1.0, duration_s: float = 0.8, after_s: float = 2.0) -> np.ndarray:
    """Silence, a tone for speech, silence; int16."""
    t = np.arange(int(duration_s * rate_hz)) / rate_hz
    speech = 0.5 * np.sin(2 * np.pi * 300 * t)
    return np.round(
        32767 * np.concatenate([np.zeros(int(before_s * rate_hz)), speech, np.zeros(int(after_s * rate_hz))])
    ).astype(np.int16)


@pytest.mark.parametrize("rate_hz", [16000, 44100, 48000])
def test_an_utterance_is_cut_out_and_brought_to_16_khz(rate_hz):
    microphone = FileMicrophone(spoken(rate_hz), rate_hz, chunk_samples=rate_hz // 70)
    utterance = record_utterance(microphone, detector=LoudIsSpeech())
    assert utterance is not None
    assert utterance.dtype == np.float32
    loud = np.flatnonzero(np.abs(utterance) > 0.1)
    assert loud[0] / 16000 == pytest.approx(0.4, abs=0.03)  # the pre-roll of 0.5 s ends with the onset of 0.1 s
    assert (loud[-1] - loud[0]) / 16000 == pytest.approx(0.8, abs=0.01)
    assert (len(utterance) - loud[-1]) / 16000 == pytest.approx(0.6, abs=0.03)
    spectrum = np.abs(np.fft.rfft(utterance))
    assert spectrum.argmax() * 16000 / len(utterance) == pytest.approx(300, abs=2)
    assert not microphone.is_open


def test_nobody_speaks():
    microphone = FileMicrophone(np.zeros(0, np.int16), 16000)
    assert record_utterance(microphone, options=ListenOptions(wait_s=0.5), detector=LoudIsSpeech()) is None
    assert not microphone.is_open


def test_states_are_reported_once_each():
    states: list[State] = []
    record_utterance(FileMicrophone(spoken(16000), 16000), detector=LoudIsSpeech(), on_state=states.append)
    assert states == [State.WAITING, State.SPEAKING]


def test_stopping_gives_what_was_said():
    microphone = FileMicrophone(spoken(16000, before_s=0.5, duration_s=5.0), 16000)
    calls = iter(range(1000))
    utterance = record_utterance(microphone, detector=LoudIsSpeech(), should_stop=lambda: next(calls) >= 75)
    assert utterance is not None
    assert len(utterance) / 16000 == pytest.approx(75 * 0.02 - 0.1, abs=0.03)


def test_stopping_before_anything_was_said_gives_nothing():
    assert (
        record_utterance(FileMicrophone(spoken(16000), 16000), detector=LoudIsSpeech(), should_stop=lambda: True)
        is None
    )


def test_a_lost_microphone_is_an_error_and_is_closed():
    microphone = FileMicrophone(spoken(16000, after_s=0.1), 16000, unplugged_at_end=True)
    with pytest.raises(CaptureError, match="disconnected"):
        record_utterance(microphone, detector=LoudIsSpeech())
    assert not microphone.is_open
