"""Samples to log-mel frames, as the reference front end computes them (phi4mm 4.1, 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.common.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from app.runtime.formats.params import AudioParams

_FULL_SCALE = np.float32(32768)  # the reference works on 16-bit amplitudes
_POWER_FLOOR = 1.0
_BLOCK_FRAMES = 256  # about 3 MiB of intermediate values, whatever the length of the sound


@dataclass(frozen=True, slots=True)
class _Front:
    """Sizes at one sample rate, in samples, and how many bins of the spectrum count."""

    window_length: int
    hop_length: int
    n_fft: int
    n_bins: int


def log_mel(samples: NDArray[np.float32], rate_hz: int, params: AudioParams) -> NDArray[np.float32]:
    """Log-mel features without padding or normalisation; trailing samples short of a window are dropped.

    Args:
        samples: float32, shape (n_samples,), full scale is [-1, 1].
        rate_hz: the model's rate, or half of it: then the upper half of the spectrum is zero.
        params: window, hop, transform and filter sizes.

    Returns:
        float32, shape (n_frames, mel_bins), natural logarithms of power, not below 0.

    Raises:
        MediaError: another rate, or less sound than one window.
    """
    n_frames = frame_count(len(samples), rate_hz, params)
    front = _front(rate_hz, params)
    filters = _mel_filters(params)
    result = np.empty((n_frames, params.mel_bins), np.float32)
    for start, stop in _blocks(n_frames):
        first = start * front.hop_length
        last = (stop - 1) * front.hop_length + front.window_length
        power = _power(samples[first:last], front, params.preemphasis)
        mel = power @ filters[: front.n_bins]
        np.log(np.maximum(mel, _POWER_FLOOR, out=mel), out=result[start:stop])
    return result


def frame_count(n_samples: int, rate_hz: int, params: AudioParams) -> int:
    """Frames that :func:`log_mel` returns; at least one.

    Raises:
        MediaError: as :func:`log_mel`.
    """
    front = _front(rate_hz, params)
    if n_samples < front.window_length:
        raise MediaError(
            f"the sound is {1000 * n_samples / rate_hz:.3g} ms long; at least "
            f"{1000 * front.window_length / rate_hz:.3g} ms are needed: record a little longer"
        )
    return (n_samples - front.window_length) // front.hop_length + 1


def _front(rate_hz: int, params: AudioParams) -> _Front:
    if rate_hz == params.sample_rate_hz:
        return _Front(params.window_length, params.hop_length, params.n_fft, params.n_fft // 2 + 1)
    if 2 * rate_hz == params.sample_rate_hz:
        # The reference zeroes the bin at half the rate and fills the missing upper half with zeros.
        return _Front(params.window_length // 2, params.hop_length // 2, params.n_fft // 2, params.n_fft // 4)
    raise MediaError(
        f"sound at {rate_hz} Hz cannot be used directly; resample it to {params.sample_rate_hz} "
        f"or {params.sample_rate_hz // 2} Hz"
    )


def _blocks(n_frames: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n_frames, _BLOCK_FRAMES):
        yield start, min(start + _BLOCK_FRAMES, n_frames)


def _power(samples: NDArray[np.float32], front: _Front, preemphasis: float) -> NDArray[np.float32]:
    """Power spectrum of all whole frames in ``samples``, float32, shape (n_frames, n_bins)."""
    frames = _emphasised_frames(samples, front, preemphasis)
    windowed = np.zeros((len(frames), front.n_fft), np.float64)
    np.multiply(frames, _hamming(front.window_length), out=windowed[:, : front.window_length])
    spectrum = np.fft.rfft(windowed, axis=1)[:, : front.n_bins].astype(np.complex64)
    magnitude = np.abs(spectrum)
    return np.square(magnitude, out=magnitude)


def _emphasised_frames(samples: NDArray[np.float32], front: _Front, preemphasis: float) -> NDArray[np.float32]:
    """Frames of ``x[n] - a * x[n - 1]`` in float32; the first sample of each frame is its own predecessor."""
    previous = np.concatenate([samples[:1], samples[:-1]])
    factor = np.float32(preemphasis)
    emphasised = np.asarray((samples - factor * previous) * _FULL_SCALE, np.float32)
    first = (samples - factor * samples) * _FULL_SCALE
    frames = sliding_window_view(emphasised, front.window_length)[:: front.hop_length].copy()
    frames[:, 0] = first[:: front.hop_length][: len(frames)]
    return frames


@lru_cache(maxsize=8)
def _hamming(length: int) -> NDArray[np.float64]:
    """The symmetric window."""
    return np.hamming(length)


@lru_cache(maxsize=8)
def _mel_filters(params: AudioParams) -> NDArray[np.float32]:
    """Triangles in mel space without area normalisation, float32, shape (n_fft / 2 + 1, mel_bins).

    Bins from 1 up to, without it, the one nearest ``mel_high_hz`` take part.
    """
    top = float(_mel(np.array(params.mel_high_hz)))
    step = top / (params.mel_bins + 1)
    centres = np.linspace(0.0, top, params.mel_bins + 2)[1:-1]
    bins = np.arange(params.n_fft // 2 + 1, dtype=np.float64)
    bin_mel = _mel(bins * (params.sample_rate_hz / params.n_fft))
    weights = 1.0 - np.abs(centres[None, :] - bin_mel[:, None]) / step
    highest = int(params.mel_high_hz * params.n_fft / params.sample_rate_hz + 0.5)
    weights[(bins < 1) | (bins >= highest)] = 0.0
    return np.asarray(np.maximum(weights, 0.0), np.float32)


def _mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log(1.0 + frequency_hz / 700.0))
