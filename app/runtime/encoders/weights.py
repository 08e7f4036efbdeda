"""Weights of an encoder: checked, mapped or converted, and put where the device wants them.

On the CPU they stay in the memory-mapped file unless another layout computes faster or more
exactly; on other devices they are copied once.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from app.common.errors import DeviceError, ModelFormatError
from app.runtime.encoders.compiled import convert
from app.runtime.encoders.graph import Linear, Node, Norm, new_tensor
from app.runtime.encoders.layout import FLOATS, Layout, expanded_type
from app.runtime.ffi import ggml
from app.runtime.ffi import ggml_backend as gb
from app.runtime.ffi.binding import fail
from app.runtime.ffi.native_log import with_troubles
from app.runtime.formats.ggml_types import GgmlType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.runtime.encoders.backend import Backend
    from app.runtime.formats.gguf import GgufFile, GgufTensor

_PAGE_BYTES = 4096
_K_QUANTS = (GgmlType.Q2_K, GgmlType.Q3_K, GgmlType.Q4_K, GgmlType.Q5_K, GgmlType.Q6_K, GgmlType.IQ4_XS)
_SMALL_BLOCKS = (GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q5_0, GgmlType.Q5_1, GgmlType.Q8_0, GgmlType.IQ4_NL)
_MATRIX_TYPES = (*FLOATS, *_SMALL_BLOCKS, *_K_QUANTS)
"""Types that every back end can multiply; the library ends the process on others."""


def check_tensors(
    file: GgufFile, vectors: Mapping[str, tuple[int, ...]], matrices: Mapping[str, tuple[int, int]]
) -> None:
    """Compare tensors with what the metadata say.

    Args:
        file: the open file.
        vectors: name to shape (numpy order) of tensors that must be F32.
        matrices: name to shape of those that may be quantized.

    Raises:
        ModelFormatError: one is missing, of another shape or of an unusable type.
    """
    for name, shape in [*vectors.items(), *matrices.items()]:
        tensor = file.get(name)
        if tensor is None:
            raise _damaged(file, f"tensor {name} is missing")
        if tensor.shape != shape:
            raise _damaged(file, f"tensor {name} has shape {tensor.shape}, not {shape}")
        if tensor.type not in (_MATRIX_TYPES if name in matrices else (GgmlType.F32,)):
            raise _damaged(file, f"tensor {name} has the unusable type {tensor.type.name}")


def _damaged(file: GgufFile, reason: str) -> ModelFormatError:
    return ModelFormatError(f"{file.path}: {reason}; convert or install the model again")


class Weights:
    """The tensors of one file on one backend.

    Attributes:
        layout: how the matrices lie.
    """

    def __init__(self, file: GgufFile, names: list[str], backend: Backend, layout: Layout) -> None:
        """Load the tensors called ``names``, which were checked before.

        Raises:
            DeviceError: the device has too little memory.
            NativeCallError: the libraries failed.
        """
        self.layout = layout if backend.is_cpu else Layout.STORED
        self._backend = backend
        self._source = str(file.path)
        self._nodes: dict[str, Node] = {}
        self._tensors = {name: file[name] for name in names}  # keeps the file mapped
        with ExitStack() as stack:
            self._load(stack)
            self._stack = stack.pop_all()

    def node(self, name: str) -> Node:
        """The tensor called ``name``, for graphs."""
        return self._nodes[name]

    def linear(self, name: str) -> Linear:
        """Tensors ``name``.weight and ``name``.bias."""
        return Linear(self.node(f"{name}.weight"), self.node(f"{name}.bias"))

    def norm(self, name: str, epsilon: float) -> Norm:
        """The same two as a layer norm."""
        return Norm(self.node(f"{name}.weight"), self.node(f"{name}.bias"), epsilon)

    def close(self) -> None:
        """Free what was allocated; graphs that use it must be closed before."""
        self._stack.close()
        self._tensors.clear()

    def _load(self, stack: ExitStack) -> None:
        if not self._backend.is_cpu:
            self._upload(stack)
            return
        self._map(stack)
        wider = {
            name: kind for name, tensor in self._tensors.items() if (kind := self._expanded_type(tensor)) is not None
        }
        if wider:
            self._expand(wider, stack)

    def _expanded_type(self, tensor: GgufTensor) -> GgmlType | None:
        return expanded_type(self.layout, tensor.type) if len(tensor.shape) > 1 else None

    def _declare(self, kinds: Mapping[str, GgmlType], stack: ExitStack) -> tuple[ggml.Context, dict[str, Node]]:
        """Tensors without memory, of the files' shapes."""
        n_bytes = len(kinds) * ggml.ggml_tensor_overhead()
        context = ggml.ggml_init(ggml.InitParams(n_bytes, None, True))
        stack.callback(ggml.ggml_free, context)
        nodes = {name: new_tensor(context, kind, self._tensors[name].shape[::-1]) for name, kind in kinds.items()}
        return context, nodes

    def _map(self, stack: ExitStack) -> None:
        """Let tensors point into the mapped file."""
        _, self._nodes = self._declare({name: tensor.type for name, tensor in self._tensors.items()}, stack)
        begin = min(_address(tensor) for tensor in self._tensors.values()) // _PAGE_BYTES * _PAGE_BYTES
        end = max(_address(tensor) + tensor.data.nbytes for tensor in self._tensors.values())
        buffer = gb.ggml_backend_cpu_buffer_from_ptr(begin, end - begin)
        _own_weights(buffer, stack)
        for name, node in self._nodes.items():
            status = gb.ggml_backend_tensor_alloc(buffer, node.handle, _address(self._tensors[name]))
            if status != gb.STATUS_SUCCESS:
                fail("ggml_backend_tensor_alloc", f"{self._source}: tensor {name}; convert the model again", status)

    def _upload(self, stack: ExitStack) -> None:
        """Copy tensors to the device."""
        context, self._nodes = self._declare({name: tensor.type for name, tensor in self._tensors.items()}, stack)
        self._allocate(context, stack)
        for name, node in self._nodes.items():
            data = self._tensors[name].data
            gb.ggml_backend_tensor_set(node.handle, data.ctypes.data, 0, data.nbytes)

    def _expand(self, kinds: Mapping[str, GgmlType], stack: ExitStack) -> None:
        """Convert mapped matrices to a wider type."""
        context, nodes = self._declare(kinds, stack)
        self._allocate(context, stack)
        convert(self._backend, [(self._nodes[name], node) for name, node in nodes.items()])
        self._nodes |= nodes

    def _allocate(self, context: ggml.Context, stack: ExitStack) -> None:
        buffer = gb.ggml_backend_alloc_ctx_tensors_from_buft(context, self._backend.weight_memory)
        if buffer is None:
            device = self._backend.device.name
            message = f"{device} has too little free memory for {self._source}; choose --device cpu or close programs"
            raise DeviceError(with_troubles(message))
        _own_weights(buffer, stack)


def _address(tensor: GgufTensor) -> int:
    return tensor.data.ctypes.data


def _own_weights(buffer: gb.Buffer, stack: ExitStack) -> None:
    stack.callback(gb.ggml_backend_buffer_free, buffer)
    gb.ggml_backend_buffer_set_usage(buffer, gb.USAGE_WEIGHTS)
