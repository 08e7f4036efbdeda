from __future__ import annotations

import sys

import numpy as np
import pytest

from app.capture.vad import FRAME_SAMPLES, RATE_HZ, WebRtcDetector
from app.common.errors import CaptureError


def frames(samples: np.ndarray) -> np.ndarray:
    return samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).astype(np.float32)


def voice_like(duration_s: float) -> np.ndarray:
    """A buzz of 120 Hz with the resonances of a vowel, swelling four times a second as syllables do."""
    t = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    harmonics = sum(
        np.exp(-(((120 * k - f) / 120) ** 2)) * np.sin(2 * np.pi * 120 * k * t)
        for k in range(1, 30)
        for f in (600, 1200, 2500)
    )
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    return 0.2 * harmonics / np.abs(harmonics).max() * swell


def share(samples: np.ndarray) -> float:
    detector = WebRtcDetector()
    return float(np.mean([detector.is_speech(frame) for frame in frames(samples)]))


def test_voice_is_speech():
    assert share(voice_like(2.0)) > 0.8


def test_silence_and_hum_are_not():
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    assert share(np.zeros(2 * RATE_HZ)) == 0
    assert share(0.03 * np.sin(2 * np.pi * 50 * t)) < 0.1
    assert share(0.003 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)) < 0.1


def test_samples_beyond_full_scale_are_clipped():
    assert isinstance(WebRtcDetector().is_speech(np.full(FRAME_SAMPLES, 3.0, np.float32)), bool)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    with pytest.raises(CaptureError, match="webrtcvad-wheels"):
        WebRtcDetector()
