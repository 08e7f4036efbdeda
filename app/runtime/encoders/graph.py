"""Building blocks of the encoder graphs.

A :class:`Node` is a tensor of the graph with its shape as ggml counts it: ``ne[0]`` is the
fastest dimension. Activations are float32 and, unless said otherwise, contiguous, with one row
(ne[0]) per patch or frame.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.runtime.ffi import ggml

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_F32_BYTES = 4
_TYPES = {np.dtype(np.float32): ggml.TYPE_F32, np.dtype(np.float16): ggml.TYPE_F16, np.dtype(np.int32): ggml.TYPE_I32}


@dataclass(frozen=True, slots=True)
class Node:
    """A tensor in a graph.

    Attributes:
        handle: the native tensor.
        ne: its four sizes, fastest first.
    """

    handle: ggml.Tensor
    ne: tuple[int, int, int, int]


def sizes(*ne: int) -> tuple[int, int, int, int]:
    """``ne`` filled up to four sizes with ones."""
    filled = (*ne, 1, 1, 1, 1)
    return filled[0], filled[1], filled[2], filled[3]


def new_tensor(context: ggml.Context, kind: int, ne: tuple[int, ...]) -> Node:
    """A tensor without memory in ``context``; ``kind`` is a ggml type."""
    full = sizes(*ne)
    return Node(ggml.ggml_new_tensor(context, kind, 4, (ctypes.c_int64 * 4)(*full)), full)


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix (ne = (inputs, outputs)), perhaps quantized, and its bias (outputs)."""

    weight: Node
    bias: Node


@dataclass(frozen=True, slots=True)
class Norm:
    """Scale and shift of a layer norm, with its epsilon."""

    weight: Node
    bias: Node
    epsilon: float


class GraphBuilder:
    """Adds operations to one graph; knows the inputs it declared.

    Attributes:
        exact: no flash attention and no float16: float32 throughout.
        on_cpu: the graph runs on the CPU only.
        n_operations: floating-point operations of the matrix products so far.
        inputs: name to node and numpy shape and dtype.
    """

    def __init__(self, context: ggml.Context, *, exact: bool, on_cpu: bool) -> None:
        """Build into ``context``."""
        self._context = context
        self.exact = exact
        self.on_cpu = on_cpu
        self.n_operations = 0
        self.inputs: dict[str, tuple[Node, tuple[int, ...], np.dtype[np.generic]]] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> Node:
        """Declare an input of numpy ``shape`` (slowest first) that each run fills."""
        kind = np.dtype(dtype)
        node = new_tensor(self._context, _TYPES[kind], shape[::-1])
        ggml.ggml_set_input(node.handle)
        ggml.ggml_set_name(node.handle, name.encode())
        self.inputs[name] = (node, shape, kind)
        return node

    # --- element-wise

    def add(self, a: Node, b: Node) -> Node:
        """A + b, b repeated over a."""
        return Node(ggml.ggml_add(self._context, a.handle, b.handle), a.ne)

    def mul(self, a: Node, b: Node) -> Node:
        """A * b, b repeated over a."""
        return Node(ggml.ggml_mul(self._context, a.handle, b.handle), a.ne)

    def scale(self, a: Node, factor: float) -> Node:
        """A * factor."""
        return Node(ggml.ggml_scale(self._context, a.handle, factor), a.ne)

    def relu(self, a: Node) -> Node:
        """Max(a, 0), in a's memory."""
        return Node(ggml.ggml_relu_inplace(self._context, a.handle), a.ne)

    def silu(self, a: Node) -> Node:
        """Swish."""
        return Node(ggml.ggml_silu(self._context, a.handle), a.ne)

    def gelu_erf(self, a: Node) -> Node:
        """GELU with the error function."""
        return Node(ggml.ggml_gelu_erf(self._context, a.handle), a.ne)

    def gelu_tanh(self, a: Node) -> Node:
        """GELU with the tanh formula.

        ggml's own CPU kernel goes through a float16 table (3e-4 relative) and takes twice as long, so
        it is put together: x * sigmoid(u) with u = 2 sqrt(2/pi) (x + 0.044715 x^3) is silu(u) / (u / x).
        """
        if not self.on_cpu:
            return Node(ggml.ggml_gelu(self._context, a.handle), a.ne)
        slope = 2 * math.sqrt(2 / math.pi)
        square = ggml.ggml_sqr(self._context, a.handle)
        factor = ggml.ggml_scale_bias(self._context, square, slope * 0.044715, slope)  # u / x
        argument = ggml.ggml_mul(self._context, factor, a.handle)
        swished = ggml.ggml_silu(self._context, argument)
        return Node(ggml.ggml_div(self._context, swished, factor), a.ne)

    def value_swish_gate(self, a: Node) -> Node:
        """First half of each row times swish of the second half."""
        return Node(ggml.ggml_swiglu_swapped(self._context, a.handle), (a.ne[0] // 2, *a.ne[1:]))

    def copy(self, source: Node, destination: Node) -> Node:
        """Values of ``source`` into ``destination``'s memory, by way of float32 where types differ."""
        self.n_operations += 1000 * math.prod(source.ne)  # worth as many threads as a product of this many
        wide = ggml.ggml_cast(self._context, source.handle, ggml.TYPE_F32)
        return Node(ggml.ggml_cpy(self._context, wide, destination.handle), destination.ne)

    # --- layers

    def layer_norm(self, x: Node, norm: Norm) -> Node:
        """Layer norm over rows."""
        normal = Node(ggml.ggml_norm(self._context, x.handle, norm.epsilon), x.ne)
        return self.add(self.mul(normal, norm.weight), norm.bias)

    def mat_mul(self, weight: Node, x: Node) -> Node:
        """Every row of x times every row of weight; float32."""
        self.n_operations += 2 * weight.ne[1] * math.prod(x.ne)
        product = ggml.ggml_mul_mat(self._context, weight.handle, x.handle)
        if self.exact:
            ggml.ggml_mul_mat_set_prec(product, ggml.PRECISION_F32)
        return Node(product, (weight.ne[1], *x.ne[1:]))

    def linear(self, x: Node, layer: Linear) -> Node:
        """Matrix and bias; x is made two-dimensional so that the batch is one wide product."""
        product = self.mat_mul(layer.weight, self.reshape(x, x.ne[0], math.prod(x.ne[1:])))
        return self.reshape(self.add(product, layer.bias), layer.weight.ne[1], *x.ne[1:])

    def rows(self, table: Node, indices: Node) -> Node:
        """Rows of a table by index."""
        handle = ggml.ggml_get_rows(self._context, table.handle, indices.handle)
        return Node(handle, (table.ne[0], *indices.ne[:3]))

    def attention(self, qkv: Node, n_heads: int, mask: Node | None) -> Node:
        """Softmax(q k / sqrt(head size) + mask) v for every head.

        Args:
            qkv: (3 * width, n, batch): queries, keys and values behind each other in a row.
            n_heads: heads.
            mask: from :meth:`attention_mask`, or None.

        Returns:
            (width, n, batch).
        """
        q, k, v = (self._head_view(qkv, n_heads, part) for part in range(3))
        width, scale = qkv.ne[0] // 3, (qkv.ne[0] // 3 // n_heads) ** -0.5
        mixed = self._explicit_attention(q, k, v, mask, scale) if self.exact else self._flash(q, k, v, mask, scale)
        return self.reshape(mixed, width, qkv.ne[1], qkv.ne[2])

    def attention_mask(self, mask: Node) -> Node:
        """What :meth:`attention` adds to the scores: (n keys, n queries, 1 or n_heads, 1 or batch).

        Flash attention wants it in float16.
        """
        return mask if self.exact else Node(ggml.ggml_cast(self._context, mask.handle, ggml.TYPE_F16), mask.ne)

    def _head_view(self, qkv: Node, n_heads: int, part: int) -> Node:
        """Queries (0), keys (1) or values (2) as (head size, n, heads, batch), not contiguous."""
        row, n, batch = qkv.ne[0], qkv.ne[1], qkv.ne[2]
        size = row // 3 // n_heads
        strides = (size * _F32_BYTES, row * _F32_BYTES, row * n * _F32_BYTES)
        view = ggml.ggml_view_4d(
            self._context, qkv.handle, size, n_heads, n, batch, *strides, part * (row // 3) * _F32_BYTES
        )
        return self.permute(Node(view, (size, n_heads, n, batch)), 0, 2, 1, 3)

    def _explicit_attention(self, q: Node, k: Node, v: Node, mask: Node | None, scale: float) -> Node:
        """Scores, softmax and mixing as separate operations; (head size, heads, n, batch)."""
        scores = self.mat_mul(self._padded_rows(k), self._padded_rows(q))
        scores = Node(scores.handle, (k.ne[1], q.ne[1], *q.ne[2:]))
        weights = ggml.ggml_soft_max_ext(self._context, scores.handle, mask.handle if mask else None, scale, 0.0)
        mixed = self.mat_mul(self.cont(self.permute(v, 1, 0, 2, 3)), Node(weights, scores.ne))
        return self.cont(self.permute(mixed, 0, 2, 1, 3))

    def _flash(self, q: Node, k: Node, v: Node, mask: Node | None, scale: float) -> Node:
        """The same in one operation; GPU kernels want keys and values in float16."""
        self.n_operations += 4 * k.ne[1] * math.prod(q.ne)
        keys, values = (x.handle if self.on_cpu else self._half(x) for x in (k, v))
        handles = (q.handle, keys, values, mask.handle if mask else None)
        mixed = ggml.ggml_flash_attn_ext(self._context, *handles, scale, 0.0, 0.0)
        ggml.ggml_flash_attn_ext_set_prec(mixed, ggml.PRECISION_F32)
        return Node(mixed, (q.ne[0], q.ne[2], q.ne[1], q.ne[3]))

    def _half(self, x: Node) -> ggml.Tensor:
        return ggml.ggml_cast(self._context, x.handle, ggml.TYPE_F16)

    def _padded_rows(self, x: Node) -> Node:
        """Contiguous, rows filled with zeros to a multiple of 16, which fast CPU products need."""
        return self.pad(x, -x.ne[0] % 16) if x.ne[0] % 16 else self.cont(x)

    def depthwise(self, x: Node, kernel: Node, stride: int, padding: int) -> Node:
        """Depth-wise convolution with the channels contiguous.

        Args:
            x: (channels, width, height), contiguous.
            kernel: (kernel width, kernel height, 1, channels) as stored.
            stride: of both dimensions.
            padding: zeros around both dimensions of at least two columns.

        Returns:
            (channels, new width, new height), contiguous.
        """
        n_channels, width, height = x.ne[:3]
        steps = (stride, stride, padding, 0 if kernel.ne[1] == 1 else padding, 1, 1)
        new = [(n + 2 * p - k) // stride + 1 for n, p, k in zip((width, height), steps[2:4], kernel.ne, strict=False)]
        taps, image = self._channels_inside(kernel, x) if n_channels > 1 else (kernel, self.reshape(x, width, height))
        done = Node(
            ggml.ggml_conv_2d_dw_direct(self._context, taps.handle, image.handle, *steps), sizes(*new, n_channels)
        )
        return self.permute(done, 1, 2, 0, 3) if n_channels > 1 else self.reshape(done, 1, *new)

    def _channels_inside(self, kernel: Node, x: Node) -> tuple[Node, Node]:
        """Kernel and image with the sizes the operation wants and their channels contiguous in memory."""
        n_channels = x.ne[0]
        taps = self.cont(self.permute(self.reshape(kernel, kernel.ne[0] * kernel.ne[1], n_channels), 1, 0, 2, 3))
        taps = self.permute(self.reshape(taps, n_channels, 1, kernel.ne[0], kernel.ne[1]), 3, 2, 0, 1)
        return taps, self.permute(x, 2, 0, 1, 3)

    # --- shapes

    def pad(self, x: Node, n_zeros: int) -> Node:
        """Contiguous, with zeros at the end of each row."""
        return Node(ggml.ggml_pad(self._context, x.handle, n_zeros, 0, 0, 0), (x.ne[0] + n_zeros, *x.ne[1:]))

    def pad_rows(self, x: Node, before: int, after: int) -> Node:
        """Contiguous, with rows of zeros before and after those of dimension 1."""
        padded = ggml.ggml_pad_ext(self._context, x.handle, 0, 0, before, after, 0, 0, 0, 0)
        return Node(padded, (x.ne[0], x.ne[1] + before + after, *x.ne[2:]))

    def every_other_row(self, x: Node, first: int) -> Node:
        """Rows first, first + 2... of dimension 1 of a contiguous (row, n, m); a view."""
        row_bytes, n_rows = x.ne[0] * _F32_BYTES, x.ne[1] // 2
        strides = (2 * row_bytes, x.ne[1] * row_bytes)
        view = ggml.ggml_view_3d(self._context, x.handle, x.ne[0], n_rows, x.ne[2], *strides, first * row_bytes)
        return Node(view, sizes(x.ne[0], n_rows, x.ne[2]))

    def cont(self, x: Node) -> Node:
        """Contiguous copy."""
        return Node(ggml.ggml_cont(self._context, x.handle), x.ne)

    def permute(self, x: Node, *axes: int) -> Node:
        """Dimension i becomes dimension axes[i]; a view."""
        ne = [0] * 4
        for axis, size in zip(axes, x.ne, strict=True):
            ne[axis] = size
        return Node(ggml.ggml_permute(self._context, x.handle, *axes), sizes(*ne))

    def reshape(self, x: Node, *ne: int) -> Node:
        """Same memory of a contiguous tensor, other sizes."""
        full = sizes(*ne)
        if full == x.ne:
            return x
        return Node(ggml.ggml_reshape_4d(self._context, x.handle, *full), full)
