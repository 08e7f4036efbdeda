"""libggml's devices, memory and scheduler, with their C names (see :mod:`app.runtime.ffi.ggml`)."""

from __future__ import annotations

import ctypes
from typing import Annotated, NewType

from app.runtime.ffi.binding import Address, Bool, Int32, Reference, Size, Text, native_function
from app.runtime.ffi.ggml import Context, Graph, Tensor  # noqa: TC001 - read at run time by the binding

_C = ctypes.c_void_p
_Device = NewType("_Device", int)
_Registry = NewType("_Registry", int)
_Backend = NewType("_Backend", int)
_Buffer = NewType("_Buffer", int)
_BufferType = NewType("_BufferType", int)
_Scheduler = NewType("_Scheduler", int)
Device = Annotated[_Device, _C]
Registry = Annotated[_Registry, _C]
BackendHandle = Annotated[_Backend, _C]
Buffer = Annotated[_Buffer, _C]
BufferType = Annotated[_BufferType, _C]
Scheduler = Annotated[_Scheduler, _C]

STATUS_SUCCESS, STATUS_ABORTED = 0, 1
DEVICE_KINDS = ("cpu", "gpu", "igpu", "accel", "meta")
USAGE_WEIGHTS = 1

AbortCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
"""Asked between graph nodes; True ends the computation."""
SetAbortCallback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
SetThreads = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
ExtraBufferTypes = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)
"""Takes a device; the array of buffer types ends with NULL."""


class Feature(ctypes.Structure):
    """struct ggml_backend_feature; the array ends with a NULL name."""

    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))


GetFeatures = ctypes.CFUNCTYPE(ctypes.POINTER(Feature), ctypes.c_void_p)
"""Takes a registry."""


# --- devices


@native_function
def ggml_backend_dev_count() -> Size:
    """Number of devices."""


@native_function
def ggml_backend_dev_get(index: Size) -> Device:
    """One device."""


@native_function
def ggml_backend_dev_name(device: Device) -> Text:
    """Short name, e.g. "CPU" or "Vulkan0"."""


@native_function
def ggml_backend_dev_description(device: Device) -> Text:
    """What the maker calls it."""


@native_function
def ggml_backend_dev_type(device: Device) -> Int32:
    """Index into DEVICE_KINDS."""


@native_function
def ggml_backend_dev_memory(device: Device, free: Reference, total: Reference) -> None:
    """Memory in bytes, into two size_t."""


@native_function
def ggml_backend_dev_backend_reg(device: Device) -> Registry:
    """The back end a device belongs to."""


@native_function
def ggml_backend_dev_init(device: Device, parameters: Reference) -> BackendHandle:
    """Start a stream on a device."""


@native_function
def ggml_backend_dev_buffer_type(device: Device) -> BufferType:
    """Where a device keeps its tensors."""


@native_function
def ggml_backend_dev_supports_op(device: Device, tensor: Tensor) -> Bool:
    """True if the device can compute this tensor's operation."""


@native_function
def ggml_backend_reg_get_proc_address(registry: Registry, name: Text) -> Address | None:
    """An optional function of a back end."""


@native_function
def ggml_backend_free(backend: BackendHandle) -> None:
    """End a stream."""


@native_function
def ggml_backend_name(backend: BackendHandle) -> Text:
    """Name of a stream's device."""


@native_function
def ggml_backend_get_device(backend: BackendHandle) -> Device:
    """The device of a stream."""


# --- memory


@native_function
def ggml_backend_buft_name(kind: BufferType) -> Text:
    """Name of a kind of memory."""


@native_function
def ggml_backend_buft_is_host(kind: BufferType) -> Bool:
    """True if the CPU can address it."""


@native_function
def ggml_backend_buft_get_alignment(kind: BufferType) -> Size:
    """Alignment of tensors, bytes."""


@native_function
def ggml_backend_buffer_free(buffer: Buffer) -> None:
    """Free a buffer; memory that was given by pointer stays."""


@native_function
def ggml_backend_buffer_get_base(buffer: Buffer) -> Address:
    """Start of a buffer."""


@native_function
def ggml_backend_buffer_get_size(buffer: Buffer) -> Size:
    """Bytes of a buffer."""


@native_function
def ggml_backend_buffer_set_usage(buffer: Buffer, usage: Int32) -> None:
    """Say what a buffer holds: the scheduler computes where weights lie."""


@native_function
def ggml_backend_cpu_buffer_from_ptr(address: Reference, size: Size) -> Buffer:
    """Buffer over memory that somebody else owns, e.g. a mapped file."""


@native_function
def ggml_backend_alloc_ctx_tensors_from_buft(context: Context, kind: BufferType) -> Buffer | None:
    """One buffer for all tensors of a context that have no memory; None if it does not fit."""


@native_function
def ggml_backend_tensor_alloc(buffer: Buffer, tensor: Tensor, address: Reference) -> Int32:
    """Put a tensor at an address inside a buffer; a status."""


@native_function
def ggml_backend_tensor_set(tensor: Tensor, data: Reference, offset: Size, size: Size) -> None:
    """Copy bytes into a tensor."""


@native_function
def ggml_backend_tensor_get(tensor: Tensor, data: Reference, offset: Size, size: Size) -> None:
    """Copy bytes out of a tensor."""


# --- scheduler


@native_function
def ggml_backend_sched_new(
    backends: Reference, buffer_types: Reference, n_backends: Int32, graph_size: Size, parallel: Bool, op_offload: Bool
) -> Scheduler:
    """Scheduler over several back ends, the first preferred; the CPU must be last."""


@native_function
def ggml_backend_sched_free(scheduler: Scheduler) -> None:
    """Free a scheduler and its buffers."""


@native_function
def ggml_backend_sched_alloc_graph(scheduler: Scheduler, graph: Graph) -> Bool:
    """Assign a graph to back ends and give its tensors memory."""


@native_function
def ggml_backend_sched_graph_compute(scheduler: Scheduler, graph: Graph) -> Int32:
    """Compute an allocated graph; a status."""


@native_function
def ggml_backend_sched_get_tensor_backend(scheduler: Scheduler, tensor: Tensor) -> BackendHandle | None:
    """Where a node runs."""


@native_function
def ggml_backend_sched_get_buffer_size(scheduler: Scheduler, backend: BackendHandle) -> Size:
    """Bytes of working memory on one back end."""


@native_function
def ggml_backend_sched_get_n_splits(scheduler: Scheduler) -> Int32:
    """Pieces the graph was cut into."""
