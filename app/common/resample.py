"""Sample-rate conversion with the mathematics of ``scipy.signal.resample_poly``.

Here rather than in the runtime because the microphone needs it too, and capture and runtime
must not import each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOBES = 10  # the filter reaches this many zero crossings to each side
_KAISER_BETA = 5.0
_BLOCK_OUTPUTS = 4096  # windows of one block stay in the cache
_BLOCK_TAPS = 1 << 18


def resample(samples: NDArray[Any], rate_in_hz: int, rate_out_hz: int) -> NDArray[np.float64]:
    """Convert a whole signal; silence is assumed before and after it.

    Args:
        samples: float, shape (n,).
        rate_in_hz: its sample rate.
        rate_out_hz: the wanted rate, any ratio.

    Returns:
        float64, shape (ceil(n * rate_out_hz / rate_in_hz),).
    """
    resampler = Resampler(rate_in_hz, rate_out_hz)
    return np.concatenate([resampler.push(samples), resampler.finish()])


class Resampler:
    """The same conversion for a signal that arrives in blocks; holds only one filter length of it.

    The concatenated results equal :func:`resample` of the concatenated blocks. For one signal
    and one thread.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        """Prepare the filter; both rates are positive."""
        common = math.gcd(rate_in_hz, rate_out_hz)
        self._up, self._down = rate_out_hz // common, rate_in_hz // common
        self._taps, self._lead = _polyphase_taps(self._up, self._down)
        # Sample i of the signal is _pending[i - _pending_start]; silence stands before sample 0.
        self._pending = np.zeros(self._lead)
        self._pending_start = -self._lead
        self._n_in = 0
        self._n_out = 0

    def push(self, block: NDArray[Any]) -> NDArray[np.float64]:
        """Take the next samples, float of shape (n,); return the outputs that are complete, maybe none."""
        if self._up == self._down:
            return np.asarray(block, np.float64)
        self._pending = np.concatenate([self._pending, block])
        self._n_in += len(block)
        look_ahead = self._taps.shape[1] - 1 - self._lead
        return self._emit(self._outputs_before(self._n_in - look_ahead))

    def finish(self) -> NDArray[np.float64]:
        """The rest, as if silence followed."""
        if self._up == self._down:
            return np.zeros(0)
        self._pending = np.concatenate([self._pending, np.zeros(self._taps.shape[1])])
        return self._emit(self._outputs_before(self._n_in))

    def _outputs_before(self, position: int) -> int:
        """How many outputs lie at times before input sample ``position``."""
        return max(self._n_out, -(-position * self._up // self._down))

    def _emit(self, stop: int) -> NDArray[np.float64]:
        result = np.empty(stop - self._n_out)
        if not len(result):
            return result
        windows = sliding_window_view(self._pending, self._taps.shape[1])
        step = max(1, min(_BLOCK_OUTPUTS, _BLOCK_TAPS // self._taps.shape[1]))
        for start in range(self._n_out, stop, step):
            times = np.arange(start, min(start + step, stop)) * self._down
            first = times // self._up - self._lead - self._pending_start
            target = result[start - self._n_out :][: len(times)]
            np.einsum("ij,ij->i", windows[first], self._taps[times % self._up], out=target)
        self._n_out = stop
        self._forget()
        return result

    def _forget(self) -> None:
        """Drop samples before the window of the next output."""
        needed_from = self._n_out * self._down // self._up - self._lead
        surplus = min(max(0, needed_from - self._pending_start), len(self._pending))
        self._pending = self._pending[surplus:].copy()
        self._pending_start += surplus


@lru_cache(maxsize=4)
def _polyphase_taps(up: int, down: int) -> tuple[NDArray[np.float64], int]:
    """Filter taps by output phase, float64 of shape (up, n_taps), and how many samples they reach back.

    Output m is the sum over t of ``taps[m * down % up, t] * x[m * down // up - lead + t]``.
    """
    half = _LOBES * max(up, down)
    lead, ahead = half // up, -(-half // up)
    offsets = np.arange(up)[:, None] + (lead - np.arange(lead + ahead + 1))[None, :] * up
    inside = np.abs(offsets) <= half
    return np.where(inside, _half_filter(up, down)[np.where(inside, np.abs(offsets), 0)], 0.0), lead


def _half_filter(up: int, down: int) -> NDArray[np.float64]:
    """Kaiser-windowed low pass on the raised rate, from its centre outwards; the other half mirrors it."""
    widest = max(up, down)
    half = _LOBES * widest
    distance = np.arange(half + 1)
    response = np.sinc(distance / widest) * np.i0(_KAISER_BETA * np.sqrt(1.0 - (distance / half) ** 2))
    return np.asarray(response * (up / (2.0 * response.sum() - response[0])))
