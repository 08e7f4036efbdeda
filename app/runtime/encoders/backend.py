"""Compute devices, and graphs that run on them with the CPU as the fallback.

Threads: a :class:`Backend` and what was compiled on it belong to one thread at a time; the
cancel function given to :meth:`CompiledGraph.run` may look at anything other threads write.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from app.common.errors import DeviceError
from app.runtime.ffi import ggml_backend as gb
from app.runtime.ffi.native_log import with_troubles

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Device:
    """One compute device.

    Attributes:
        name: what ``--device`` takes, e.g. "CPU", "Vulkan0".
        description: what the maker calls it.
        kind: "cpu", "gpu", "igpu", "accel" or "meta".
        free_bytes: memory free now, as the driver says.
        total_bytes: memory in all.
    """

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int


def devices() -> list[Device]:
    """Every device the installed libraries can use, in their order; the CPU is among them."""
    return [_describe(gb.ggml_backend_dev_get(index)) for index in range(gb.ggml_backend_dev_count())]


def _describe(handle: gb.Device) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    gb.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    kind = gb.ggml_backend_dev_type(handle)
    return Device(
        name=gb.ggml_backend_dev_name(handle).decode(errors="replace"),
        description=gb.ggml_backend_dev_description(handle).decode(errors="replace"),
        kind=gb.DEVICE_KINDS[kind] if kind < len(gb.DEVICE_KINDS) else "gpu",
        free_bytes=free.value,
        total_bytes=total.value,
    )


def choose_device(wanted: str, available: list[Device]) -> Device:
    """The device called ``wanted``; for "auto" the GPU with most free memory, else the CPU.

    Raises:
        DeviceError: there is no such device.
    """
    if wanted == "auto":
        order = {"gpu": 2, "igpu": 1, "cpu": 0}
        usable = [device for device in available if device.kind in order]
        if usable:
            return max(usable, key=lambda device: (order[device.kind], device.free_bytes))
    for device in available:
        if wanted.lower() in (device.name.lower(), device.kind if device.kind == "cpu" else None):
            return device
    names = ", ".join(device.name for device in available)
    raise DeviceError(f"no compute device {wanted!r}; choose auto or one of: {names}")


def default_thread_count() -> int:
    """Cores this process may use, one per physical core where Linux tells which are twins."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_physical_core(cpu) for cpu in allowed}
    return max(1, len(cores))


def _physical_core(cpu: int) -> str:
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return str(cpu)


class Backend:
    """An opened device, with the CPU behind it for operations the device lacks.

    Attributes:
        device: what graphs run on.
        n_threads: CPU threads.
        handles: native back ends in the order of preference, the CPU last.
    """

    def __init__(self, device: str = "auto", n_threads: int | None = None) -> None:
        """Open the device.

        Raises:
            DeviceError: it is unknown or cannot be opened.
            NativeCallError: the libraries failed.
        """
        self.device = choose_device(device, devices())
        self.n_threads = n_threads or default_thread_count()
        self._thread_setters: list[tuple[Callable[[int, int], None], gb.BackendHandle]] = []
        self._cancel: Callable[[], bool] | None = None
        self._interruption: BaseException | None = None
        self._abort_callback = gb.AbortCallback(self._should_abort)
        with ExitStack() as stack:
            self._names = _names_to_open(self.device)
            self.handles = [self._open(name, stack) for name in self._names]
            self._stack = stack.pop_all()

    def _open(self, name: str, stack: ExitStack) -> gb.BackendHandle:
        handle = gb.ggml_backend_dev_init(native_device(name), None)
        stack.callback(gb.ggml_backend_free, handle)
        set_threads = optional_function(name, b"ggml_backend_set_n_threads")
        if set_threads:
            self._thread_setters.append((gb.SetThreads(set_threads), handle))
        set_abort = optional_function(name, b"ggml_backend_set_abort_callback")
        if set_abort:
            gb.SetAbortCallback(set_abort)(handle, ctypes.cast(self._abort_callback, ctypes.c_void_p), None)
        return handle

    @property
    def is_cpu(self) -> bool:
        """True if graphs run on the CPU only."""
        return self.device.kind == "cpu"

    @property
    def cpu_name(self) -> str:
        """Name of the CPU device behind this one."""
        return self._names[-1]

    @property
    def weight_memory(self) -> gb.BufferType:
        """Where the device wants its weights."""
        return gb.ggml_backend_dev_buffer_type(native_device(self.device.name))

    def use_threads(self, n_threads: int) -> None:
        """CPU threads of the computations from now on, at most :attr:`n_threads`."""
        for set_threads, handle in self._thread_setters:
            set_threads(handle, min(n_threads, self.n_threads))

    def set_cancel(self, cancel: Callable[[], bool] | None) -> None:
        """Function asked between operations whether to stop; None for never."""
        self._cancel = cancel

    def _should_abort(self, _data: int | None) -> bool:
        try:
            return self._cancel is not None and bool(self._cancel())
        except BaseException as error:
            self._interruption = error
            return True

    def raise_interruption(self) -> None:
        """Raise what the cancel function raised during a computation."""
        error, self._interruption = self._interruption, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Free the native back ends; graphs and weights on it must be closed before."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _names_to_open(device: Device) -> list[str]:
    """The device, accelerators of the CPU (BLAS), and the CPU last, as the scheduler wants it."""
    cpu_side = [d.name for kind in ("accel", "cpu") for d in devices() if d.kind == kind]
    return [device.name, *(name for name in cpu_side if name != device.name)] if device.kind != "cpu" else cpu_side


def native_device(name: str) -> gb.Device:
    """Handle of the device called ``name``.

    Raises:
        DeviceError: it has gone.
    """
    for index in range(gb.ggml_backend_dev_count()):
        handle = gb.ggml_backend_dev_get(index)
        if gb.ggml_backend_dev_name(handle).decode(errors="replace") == name:
            return handle
    raise DeviceError(with_troubles(f"the compute device {name} has gone; choose another"))


def optional_function(device: str, name: bytes) -> int | None:
    """Address of a function only some back ends have."""
    registry = gb.ggml_backend_dev_backend_reg(native_device(device))
    return gb.ggml_backend_reg_get_proc_address(registry, name)
