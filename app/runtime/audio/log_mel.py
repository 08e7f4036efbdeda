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
    bank = _mel_bank(params, front.n_bins)
    result = np.empty((n_frames, params.mel_bins), np.float32)
    for start, stop in _blocks(n_frames):
        first = start * front.hop_length
        last = (stop - 1) * front.hop_length + front.window_length
        power = _power(samples[first:last], front, params.preemphasis)
        mel = bank.apply(power)
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


@dataclass(frozen=True, slots=True, eq=False)
class _MelBank:
    """Triangles in mel space without area normalisation; neighbours overlap, so a bin feeds two of them.

    A matrix product would do too, but it is so small that BLAS threads, waiting for each other
    on a busy machine, make it 20 times slower.

    Attributes:
        bins: the part of the spectrum that counts.
        starts: first of these bins in each interval between centres that has any.
        intervals: the numbers of those intervals; number k rises to channel k and falls from channel k - 1.
        rising: float32, weight of each bin for the channel above it.
        falling: float32, weight of each bin for the channel below it.
        mel_bins: number of channels.
    """

    bins: slice
    starts: NDArray[np.intp]
    intervals: NDArray[np.intp]
    rising: NDArray[np.float32]
    falling: NDArray[np.float32]
    mel_bins: int

    def apply(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Power of shape (n_frames, n_bins) to channels, float32, shape (n_frames, mel_bins)."""
        by_bin = np.ascontiguousarray(power[:, self.bins].T)
        up = self._sums(by_bin * self.rising[:, None])[:-1]
        up += self._sums(by_bin * self.falling[:, None])[1:]
        return up.T

    def _sums(self, weighted: NDArray[np.float32]) -> NDArray[np.float32]:
        sums = np.zeros((self.mel_bins + 1, weighted.shape[1]), np.float32)
        sums[self.intervals] = np.add.reduceat(weighted, self.starts, axis=0)
        return sums


@lru_cache(maxsize=8)
def _mel_bank(params: AudioParams, n_bins: int) -> _MelBank:
    """Bins from 1 up to, without it, the one nearest ``mel_high_hz`` take part, if the spectrum has them."""
    highest = int(params.mel_high_hz * params.n_fft / params.sample_rate_hz + 0.5)
    bins = np.arange(1, min(highest, n_bins), dtype=np.float64)
    bin_mel = _mel(bins * (params.sample_rate_hz / params.n_fft))
    top = float(_mel(np.array(params.mel_high_hz)))
    edges = np.linspace(0.0, top, params.mel_bins + 2)
    step = top / (params.mel_bins + 1)
    interval = np.clip(np.searchsorted(edges, bin_mel) - 1, 0, params.mel_bins)
    intervals, starts = np.unique(interval, return_index=True)
    rising = 1.0 - (edges[interval + 1] - bin_mel) / step
    falling = 1.0 - (bin_mel - edges[interval]) / step
    return _MelBank(
        bins=slice(1, 1 + len(bins)),
        starts=starts,
        intervals=intervals,
        rising=rising.astype(np.float32),
        falling=falling.astype(np.float32),
        mel_bins=params.mel_bins,
    )


def _mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log(1.0 + frequency_hz / 700.0))
