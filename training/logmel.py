"""The model's log-mel features (SpeechLib style), in numpy, for 16 kHz and zero-filled 8 kHz audio."""

from __future__ import annotations

import numpy as np

MELS = 80


def _filters() -> np.ndarray:
    hertz = np.arange(257) * 16000 / 512
    mel = 1127.0 * np.log1p(hertz / 700.0)
    centres = np.linspace(0.0, 1127.0 * np.log1p(7690.0 / 700.0), MELS + 2)
    step = centres[1] - centres[0]
    weights = np.maximum(0.0, 1.0 - np.abs(centres[None, 1:-1] - mel[:, None]) / step)
    weights[0] = 0.0
    weights[246:] = 0.0
    return weights.astype(np.float32)


_FILTERS = _filters()


def log_mel(samples: np.ndarray, rate: int = 16000) -> np.ndarray:
    """Features [frames, 80] of float samples in -1..1; ``rate`` is 16000 or 8000."""
    window, hop, fft = (400, 160, 512) if rate == 16000 else (200, 80, 256)
    count = (len(samples) - window) // hop + 1
    if count < 1:
        raise ValueError("clip shorter than one window")
    index = np.arange(window)[None] + hop * np.arange(count)[:, None]
    frames = samples.astype(np.float32)[index]
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    shaped = (frames - np.float32(0.97) * before) * np.float32(32768.0)
    spectrum = np.abs(np.fft.rfft(shaped * np.hamming(window), fft)).astype(np.float32) ** 2
    if rate == 8000:
        spectrum = np.concatenate([spectrum[:, :-1], np.zeros((count, 129), np.float32)], axis=1)
    return np.log(np.maximum(spectrum @ _FILTERS, 1.0)).astype(np.float32)
