"""libggml's tensors and operations as far as the encoders need them, with their C names.

Shapes are given as ggml does: ``ne0`` is the fastest dimension, so a numpy array of shape
(rows, columns) is ne0 = columns, ne1 = rows. Handles are opaque addresses. A pointer result that
is not declared ``| None`` raises NativeCallError when it is NULL.

The library itself aborts the process on shapes that do not fit: callers check before they build.
"""

from __future__ import annotations

import ctypes
from typing import Annotated, NewType

from app.runtime.ffi.binding import Bool, Float, Int32, Int64, Reference, Size, Text, native_function

_C = ctypes.c_void_p
_Context = NewType("_Context", int)
_Tensor = NewType("_Tensor", int)
_Graph = NewType("_Graph", int)
Context = Annotated[_Context, _C]
Tensor = Annotated[_Tensor, _C]
Graph = Annotated[_Graph, _C]

TYPE_F32, TYPE_F16, TYPE_Q4_0, TYPE_Q8_0, TYPE_I32, TYPE_BF16 = 0, 1, 2, 8, 26, 30
PRECISION_F32 = 10


class InitParams(ctypes.Structure):
    """struct ggml_init_params."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


# --- types and tensors


@native_function
def ggml_blck_size(kind: Int32) -> Int64:
    """Elements per block of a type."""


@native_function
def ggml_row_size(kind: Int32, n_elements: Int64) -> Size:
    """Bytes of a row."""


@native_function
def ggml_type_name(kind: Int32) -> Text | None:
    """Name of a type; "NONE" or NULL for retired numbers."""


@native_function
def ggml_nbytes(tensor: Tensor) -> Size:
    """Bytes a tensor spans."""


@native_function
def ggml_nelements(tensor: Tensor) -> Int64:
    """Number of elements."""


@native_function
def ggml_op_desc(tensor: Tensor) -> Text:
    """Name of the operation that makes a tensor."""


@native_function
def ggml_set_name(tensor: Tensor, name: Text) -> Tensor:
    """Name a tensor (63 bytes are kept)."""


@native_function
def ggml_set_input(tensor: Tensor) -> None:
    """Keep a tensor's memory from being shared before it is read."""


@native_function
def ggml_set_output(tensor: Tensor) -> None:
    """Keep a tensor's memory until the graph is done."""


@native_function
def ggml_quantize_chunk(
    kind: Int32,
    source: Reference,
    destination: Reference,
    start: Int64,
    n_rows: Int64,
    n_per_row: Int64,
    matrix: Reference,
) -> Size:
    """Quantize float32 rows; bytes written."""


# --- contexts and graphs


@native_function
def ggml_tensor_overhead() -> Size:
    """Bytes one tensor takes in a context without its data."""


@native_function
def ggml_graph_overhead_custom(size: Size, gradients: Bool) -> Size:
    """Bytes a graph of ``size`` nodes takes in a context."""


@native_function
def ggml_init(parameters: InitParams) -> Context:
    """New context: memory for tensor descriptions."""


@native_function
def ggml_free(context: Context) -> None:
    """Free a context."""


@native_function
def ggml_new_tensor(context: Context, kind: Int32, n_dims: Int32, sizes: Reference) -> Tensor:
    """New tensor; ``sizes`` is an int64 array ne0, ne1..."""


@native_function
def ggml_new_graph_custom(context: Context, size: Size, gradients: Bool) -> Graph:
    """New graph of at most ``size`` nodes."""


@native_function
def ggml_build_forward_expand(graph: Graph, tensor: Tensor) -> None:
    """Add what ``tensor`` depends on to the graph."""


@native_function
def ggml_graph_n_nodes(graph: Graph) -> Int32:
    """Number of nodes."""


@native_function
def ggml_graph_node(graph: Graph, index: Int32) -> Tensor:
    """One node; negative indices count from the end."""


# --- element-wise


@native_function
def ggml_add(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """A + b, b repeated over a."""


@native_function
def ggml_add_inplace(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """A + b in a's memory."""


@native_function
def ggml_mul(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """A * b, b repeated over a."""


@native_function
def ggml_div(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """A / b, b repeated over a."""


@native_function
def ggml_sqr(context: Context, a: Tensor) -> Tensor:
    """Square."""


@native_function
def ggml_scale(context: Context, a: Tensor, factor: Float) -> Tensor:
    """A * factor."""


@native_function
def ggml_scale_bias(context: Context, a: Tensor, factor: Float, bias: Float) -> Tensor:
    """A * factor + bias."""


@native_function
def ggml_relu_inplace(context: Context, a: Tensor) -> Tensor:
    """Max(a, 0)."""


@native_function
def ggml_silu(context: Context, a: Tensor) -> Tensor:
    """A * sigmoid(a), also called swish."""


@native_function
def ggml_gelu(context: Context, a: Tensor) -> Tensor:
    """GELU, tanh form; on the CPU by a float16 table."""


@native_function
def ggml_gelu_erf(context: Context, a: Tensor) -> Tensor:
    """GELU, exact form."""


@native_function
def ggml_swiglu_swapped(context: Context, a: Tensor) -> Tensor:
    """First half of each row times silu of the second half."""


# --- rows and matrices


@native_function
def ggml_norm(context: Context, a: Tensor, epsilon: Float) -> Tensor:
    """Rows to mean 0 and variance 1."""


@native_function
def ggml_mul_mat(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """(ne0 = k, ne1 = n) and (k, m) to (n, m): every row of b times every row of a."""


@native_function
def ggml_mul_mat_set_prec(product: Tensor, precision: Int32) -> None:
    """Ask for an accumulator of at least this precision."""


@native_function
def ggml_get_rows(context: Context, table: Tensor, indices: Tensor) -> Tensor:
    """Rows of a table by int32 index, as float32."""


@native_function
def ggml_soft_max_ext(context: Context, a: Tensor, mask: Tensor | None, scale: Float, max_bias: Float) -> Tensor:
    """Softmax over rows of a * scale + mask."""


@native_function
def ggml_flash_attn_ext(
    context: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: Float,
    max_bias: Float,
    softcap: Float,
) -> Tensor:
    """Attention in one operation; q, k, v are (head size, n, heads, batch), the mask is float16."""


@native_function
def ggml_flash_attn_ext_set_prec(attention: Tensor, precision: Int32) -> None:
    """Ask for an accumulator of at least this precision."""


# --- shapes


@native_function
def ggml_cont(context: Context, a: Tensor) -> Tensor:
    """Contiguous copy."""


@native_function
def ggml_cpy(context: Context, source: Tensor, destination: Tensor) -> Tensor:
    """Copy into another tensor's memory, converting the type."""


@native_function
def ggml_cast(context: Context, a: Tensor, kind: Int32) -> Tensor:
    """Contiguous copy as another type."""


@native_function
def ggml_reshape_2d(context: Context, a: Tensor, ne0: Int64, ne1: Int64) -> Tensor:
    """Same memory, other shape."""


@native_function
def ggml_reshape_3d(context: Context, a: Tensor, ne0: Int64, ne1: Int64, ne2: Int64) -> Tensor:
    """Same memory, other shape."""


@native_function
def ggml_reshape_4d(context: Context, a: Tensor, ne0: Int64, ne1: Int64, ne2: Int64, ne3: Int64) -> Tensor:
    """Same memory, other shape."""


@native_function
def ggml_view_2d(context: Context, a: Tensor, ne0: Int64, ne1: Int64, nb1: Size, offset: Size) -> Tensor:
    """Window on a tensor; strides and offset in bytes."""


@native_function
def ggml_view_3d(
    context: Context, a: Tensor, ne0: Int64, ne1: Int64, ne2: Int64, nb1: Size, nb2: Size, offset: Size
) -> Tensor:
    """Window on a tensor; strides and offset in bytes."""


@native_function
def ggml_view_4d(
    context: Context,
    a: Tensor,
    ne0: Int64,
    ne1: Int64,
    ne2: Int64,
    ne3: Int64,
    nb1: Size,
    nb2: Size,
    nb3: Size,
    offset: Size,
) -> Tensor:
    """Window on a tensor; strides and offset in bytes."""


@native_function
def ggml_permute(context: Context, a: Tensor, axis0: Int32, axis1: Int32, axis2: Int32, axis3: Int32) -> Tensor:
    """Dimension i of a becomes dimension axis_i."""


@native_function
def ggml_pad(context: Context, a: Tensor, p0: Int32, p1: Int32, p2: Int32, p3: Int32) -> Tensor:
    """Zeros appended to each dimension."""


@native_function
def ggml_pad_ext(
    context: Context,
    a: Tensor,
    left0: Int32,
    right0: Int32,
    left1: Int32,
    right1: Int32,
    left2: Int32,
    right2: Int32,
    left3: Int32,
    right3: Int32,
) -> Tensor:
    """Zeros before and after each dimension."""


@native_function
def ggml_pool_2d(
    context: Context, a: Tensor, kind: Int32, k0: Int32, k1: Int32, s0: Int32, s1: Int32, p0: Float, p1: Float
) -> Tensor:
    """Pooling over dimensions 0 and 1."""


@native_function
def ggml_conv_2d_dw_direct(
    context: Context, kernel: Tensor, data: Tensor, s0: Int32, s1: Int32, p0: Int32, p1: Int32, d0: Int32, d1: Int32
) -> Tensor:
    """Depth-wise convolution; data (w, h, c, n) may have its channels contiguous in memory."""
