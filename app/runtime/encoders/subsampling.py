"""The convolutions that bring eight log-mel frames to one encoder frame (phi4mm 4.5, steps 0 and 1).

Long audio runs in chunks of bounded memory. A chunk of output frames [a, b) needs the input
frames [8a - 8, 8b): its first output is then computed with a cut-off left context and dropped,
all others are those of the whole.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.runtime.encoders.compiled import CompiledGraph, GraphOwner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend
    from app.runtime.encoders.graph import GraphBuilder, Node
    from app.runtime.encoders.weights import Weights
    from app.runtime.formats.params import AudioParams

_CHUNK_BYTES = 64 << 20  # of the widest activation
_MAX_CHUNK_FRAMES = 512
_TAPS = 9  # of a 3 x 3 kernel
_TAPS_PADDED = 16  # rows of a multiple of 16 are fast on the CPU
_CACHED_GRAPHS = 3  # first, middle and last chunk


class Subsampling(GraphOwner):
    """Three stride-two convolutions and a linear layer."""

    def __init__(self, weights: Weights, params: AudioParams, backend: Backend, *, exact: bool) -> None:
        """Use loaded weights; mean and deviation come with each call."""
        self._weights, self._params, self._backend, self._exact = weights, params, backend, exact
        super().__init__(_CACHED_GRAPHS)

    def run(self, features: NDArray[np.float32], cancel: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Normalised log-mel features, shape (n, mel_bins), n > 0, to shape (ceil(n / 8), width).

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        factor = self._params.time_reduction
        result = np.empty((-(-len(features) // factor), self._params.embedding_length), np.float32)
        for start, stop in chunks(len(result), self._chunk_frames):
            overlap = 1 if start else 0
            part = features[(start - overlap) * factor : stop * factor]
            graph = self._graphs.get(len(part), partial(self._compile, len(part)))
            result[start:stop] = graph.run({"windows": conv_windows(part)}, cancel)[overlap:]
        return result

    @property
    def _chunk_frames(self) -> int:
        bins = (self._params.mel_bins + 1) // 2
        bytes_per_frame = self._params.conv_channels * bins * (self._params.time_reduction // 2) * 4
        return min(_MAX_CHUNK_FRAMES, max(8, _CHUNK_BYTES // bytes_per_frame))

    def _compile(self, n_frames: int) -> CompiledGraph:
        return CompiledGraph(self._backend, partial(self._build, n_frames=n_frames), n_nodes=96, exact=self._exact)

    def _build(self, b: GraphBuilder, n_frames: int) -> Node:
        """(width, ceil(n_frames / 8)) from the windows of the first convolution."""
        n_channels, name = self._params.conv_channels, "a.sub"
        steps, bins = (n_frames + 1) // 2, (self._params.mel_bins + 1) // 2
        windows = b.input("windows", (steps * bins, _TAPS_PADDED))
        kernel = b.pad(b.reshape(self._weights.node(f"{name}.conv0.weight"), _TAPS, n_channels), _TAPS_PADDED - _TAPS)
        x = b.relu(b.add(b.mat_mul(kernel, windows), self._weights.node(f"{name}.conv0.bias")))
        x = b.reshape(x, n_channels, bins, steps)
        for stage in ("1", "2"):
            x = self._halve(b, x, f"{name}.dw{stage}", f"{name}.pw{stage}")
        flat = b.cont(b.permute(x, 1, 0, 2, 3))  # the linear layer counts channel * bins + bin
        return b.linear(b.reshape(flat, n_channels * x.ne[1], x.ne[2]), self._weights.linear(f"{name}.out"))

    def _halve(self, b: GraphBuilder, x: Node, depthwise: str, pointwise: str) -> Node:
        """Depth-wise 3 x 3 of stride two, point-wise, ReLU; (channels, bins, steps)."""
        if x.ne[1] == 1:  # the depth-wise kernel wants two columns; one of zeros is what padding is
            x = b.pad_rows(x, 0, 1)
        x = b.depthwise(x, self._weights.node(f"{depthwise}.weight"), stride=2, padding=1)
        x = b.add(x, self._weights.node(f"{depthwise}.bias"))
        return b.relu(b.linear(x, self._weights.linear(pointwise)))


def chunks(n_frames: int, chunk_frames: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``chunk_frames`` that make up [0, n_frames)."""
    for start in range(0, n_frames, chunk_frames):
        yield start, min(start + chunk_frames, n_frames)


def conv_windows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the first kernel sees at each position.

    Args:
        features: shape (n, bins).

    Returns:
        shape (ceil(n / 2) * ceil(bins / 2), 16): the 3 x 3 window around every second frame and
        bin, zeros outside, frames first; then zeros.
    """
    padded = np.pad(features, 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2]
    rows = np.zeros((windows.shape[0] * windows.shape[1], _TAPS_PADDED), np.float32)
    rows[:, :_TAPS] = windows.reshape(-1, _TAPS)
    return rows
