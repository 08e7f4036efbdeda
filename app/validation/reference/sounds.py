"""A sound file to log-mel frames, as the published processor makes them (phi4mm 4.1, 4.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDE_HZ, NARROW_HZ = 16000, 8000
WINDOW_S, HOP_S, FFT_S = 0.025, 0.010, 0.032
PREEMPHASIS = 0.97
FULL_SCALE = 32768
MEL_HIGH_HZ = 7690.0


def load_log_mel(path: Path | str, mel_bins: int) -> torch.Tensor:
    """Log-mel frames (n_frames, mel_bins) of one sound file; 8 kHz stays 8 kHz, all else becomes 16 kHz."""
    samples, rate_hz = soundfile.read(path)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if rate_hz not in (WIDE_HZ, NARROW_HZ):
        common = math.gcd(WIDE_HZ, rate_hz)
        samples, rate_hz = resample_poly(samples, WIDE_HZ // common, rate_hz // common), WIDE_HZ
    return torch.from_numpy(log_mel(samples.astype(np.float32), rate_hz, mel_bins))


def log_mel(samples: NDArray[np.float32], rate_hz: int, mel_bins: int) -> NDArray[np.float32]:
    """Frames (n_frames, mel_bins); an 8 kHz spectrum fills the lower half of the 16 kHz bins."""
    window, hop, n_fft = (round(rate_hz * seconds) for seconds in (WINDOW_S, HOP_S, FFT_S))
    if len(samples) < window:
        raise ValueError("the sound is shorter than one window of 25 ms")
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    emphasised = (frames - np.float32(PREEMPHASIS) * previous) * np.float32(FULL_SCALE)
    spectrum = np.fft.rfft(emphasised * np.hamming(window), n_fft).astype(np.complex64)
    if rate_hz == NARROW_HZ:
        spectrum = np.pad(spectrum[:, :-1], ((0, 0), (0, n_fft // 2 + 1)))
    power = np.abs(spectrum) ** 2
    return np.log(np.maximum(power @ mel_matrix(mel_bins), np.float32(1.0)))


def mel_matrix(mel_bins: int) -> NDArray[np.float32]:
    """Triangles in mel space (257, mel_bins) without area normalization; the top bin of the range is left out."""
    n_fft = round(WIDE_HZ * FFT_S)
    centres = np.linspace(0, _mel(MEL_HIGH_HZ), mel_bins + 2)
    spacing = _mel(MEL_HIGH_HZ) / (mel_bins + 1)
    bins = _mel(np.arange(n_fft // 2 + 1) * WIDE_HZ / n_fft)[:, None]
    weights = 1 - np.abs(centres[1:-1] - bins) / spacing
    inside = (bins > centres[:-2]) & (bins < centres[2:])
    inside[0] = False
    inside[int(MEL_HIGH_HZ * n_fft / WIDE_HZ + 0.5) :] = False
    return np.where(inside, weights, 0).astype(np.float32)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)
