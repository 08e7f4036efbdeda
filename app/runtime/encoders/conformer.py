"""The Conformer blocks of the sound encoder (phi4mm 4.5, steps 2 to 6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.runtime.encoders.compiled import CompiledGraph, GraphOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend
    from app.runtime.encoders.graph import GraphBuilder, Node
    from app.runtime.encoders.weights import Weights
    from app.runtime.formats.params import AudioParams

_CACHED_GRAPHS = 2


class Conformer(GraphOwner):
    """All blocks, over a stretch of frames that all attend to each other."""

    def __init__(self, weights: Weights, params: AudioParams, backend: Backend, *, exact: bool) -> None:
        """Use loaded weights."""
        self._weights, self._params, self._backend, self._exact = weights, params, backend, exact
        super().__init__(_CACHED_GRAPHS)

    def run(self, frames: NDArray[np.float32], cancel: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Encode frames of shape (n, width), any n > 0; the same shape.

        More frames than ``block_frames`` are filled up with zeros to whole stretches, each encoded
        alone; the zeros are attended to, as in the reference.

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        stretch = self._params.block_frames
        if len(frames) <= stretch:
            return self._run_stretch(frames, cancel)
        padded = np.zeros((-(-len(frames) // stretch) * stretch, frames.shape[1]), np.float32)
        padded[: len(frames)] = frames
        for start in range(0, len(padded), stretch):
            padded[start : start + stretch] = self._run_stretch(padded[start : start + stretch], cancel)
        return padded[: len(frames)]

    def _run_stretch(self, frames: NDArray[np.float32], cancel: Callable[[], bool] | None) -> NDArray[np.float32]:
        graph = self._graphs.get(len(frames), partial(self._compile, len(frames)))
        distances = relative_rows(len(frames), self._params.bias_max_distance)
        return graph.run({"frames": frames, "distances": distances}, cancel)

    def _compile(self, n_frames: int) -> CompiledGraph:
        n_nodes = 64 + 96 * self._params.block_count
        return CompiledGraph(self._backend, partial(self._build, n_frames=n_frames), n_nodes=n_nodes, exact=self._exact)

    def _build(self, b: GraphBuilder, n_frames: int) -> Node:
        """(width, n_frames)."""
        x = b.input("frames", (n_frames, self._params.embedding_length))
        bias = b.attention_mask(self._bias(b, n_frames))
        for index in range(self._params.block_count):
            x = self._block(b, x, bias, f"a.blk.{index}")
        return x

    def _bias(self, b: GraphBuilder, n_frames: int) -> Node:
        """Relative position bias, (n keys, n queries, heads)."""
        picked = b.rows(self._weights.node("a.rel_bias"), b.input("distances", (n_frames * n_frames,), np.int32))
        by_head = b.reshape(picked, self._params.head_count, n_frames, n_frames)
        return b.cont(b.permute(by_head, 2, 0, 1, 3))

    def _block(self, b: GraphBuilder, x: Node, bias: Node, name: str) -> Node:
        weights = self._weights
        x = b.add(x, self._feed_forward(b, x, f"{name}.ffn1"))
        qkv = b.linear(self._norm(b, x, f"{name}.attn.norm"), weights.linear(f"{name}.attn.qkv"))
        x = b.add(x, b.linear(b.attention(qkv, self._params.head_count, bias), weights.linear(f"{name}.attn.out")))
        x = b.add(x, self._convolution(b, x, f"{name}.conv"))
        x = b.add(x, self._feed_forward(b, x, f"{name}.ffn2"))
        return self._norm(b, x, f"{name}.norm")

    def _norm(self, b: GraphBuilder, x: Node, name: str) -> Node:
        return b.layer_norm(x, self._weights.norm(name, self._params.layer_norm_epsilon))

    def _feed_forward(self, b: GraphBuilder, x: Node, name: str) -> Node:
        """Half of: norm, up to value and gate, value * swish(gate), down."""
        up = b.linear(self._norm(b, x, f"{name}.norm"), self._weights.linear(f"{name}.up"))
        return b.scale(b.linear(b.value_swish_gate(up), self._weights.linear(f"{name}.down")), 0.5)

    def _convolution(self, b: GraphBuilder, x: Node, name: str) -> Node:
        """Norm, gated point-wise, causal depth-wise, point-wise, swish, point-wise."""
        weights = self._weights
        x = b.value_swish_gate(b.linear(self._norm(b, x, f"{name}.norm"), weights.linear(f"{name}.glu")))
        x = b.add(self._causal(b, x, weights.node(f"{name}.dw.weight")), weights.node(f"{name}.dw.bias"))
        return b.linear(b.silu(b.linear(x, weights.linear(f"{name}.pw1"))), weights.linear(f"{name}.pw2"))

    def _causal(self, b: GraphBuilder, x: Node, kernel: Node) -> Node:
        """Each channel over this frame and the k - 1 before it; (width, n)."""
        width, n_frames, n_taps = x.ne[0], x.ne[1], kernel.ne[0]
        if n_taps == 1:
            return b.mul(x, b.reshape(kernel, width))
        padded = b.pad_rows(x, n_taps - 1, 0)
        done = b.depthwise(padded, b.reshape(kernel, n_taps, 1, 1, width), stride=1, padding=0)
        return b.reshape(done, width, n_frames)


def relative_rows(n_frames: int, max_distance: int) -> NDArray[np.int32]:
    """Row of the bias table for every pair, int32, shape (n_frames**2,), keys fastest."""
    position = np.arange(n_frames, dtype=np.int32)
    distance = position[None, :] - position[:, None]  # key minus query
    clipped: NDArray[np.int32] = np.clip(distance, -max_distance, max_distance - 1)
    return (clipped + np.int32(max_distance)).reshape(-1)
