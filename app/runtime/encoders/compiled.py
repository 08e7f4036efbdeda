"""Graphs with their memory: built once per shape, run many times, a bounded number kept."""

from __future__ import annotations

import ctypes
from collections import Counter, OrderedDict
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.common.closing import Closing
from app.common.errors import Cancelled, DeviceError
from app.runtime.encoders.graph import GraphBuilder, Node
from app.runtime.encoders.interrupts import noted_interrupts
from app.runtime.ffi import ggml
from app.runtime.ffi import ggml_backend as gb
from app.runtime.ffi.binding import fail
from app.runtime.ffi.native_log import with_troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend

    Build = Callable[[GraphBuilder], Node]


# Below this a second thread saves less than the waiting at every operation costs: on a busy
# machine small graphs on two threads took a hundred times as long as on one.
_OPERATIONS_PER_THREAD = 10**9


class CompiledGraph:
    """One graph with working memory of its own on a backend.

    Attributes:
        n_threads: CPU threads it is worth.
        output_shape: numpy shape of the float32 result, without leading ones.
        cpu_operations: operations that run on the CPU though the device is another, with counts.
    """

    def __init__(self, backend: Backend, build: Build, *, n_nodes: int, exact: bool) -> None:
        """Build and allocate.

        Args:
            backend: where it runs.
            build: adds the operations and returns the result's node.
            n_nodes: room for this many tensors.
            exact: see :class:`GraphBuilder`.

        Raises:
            DeviceError: the device has too little memory.
            NativeCallError: the libraries failed.
        """
        self._backend = backend
        with ExitStack() as stack:
            n_bytes = n_nodes * ggml.ggml_tensor_overhead() + ggml.ggml_graph_overhead_custom(n_nodes, False)
            context = ggml.ggml_init(ggml.InitParams(n_bytes, None, True))
            stack.callback(ggml.ggml_free, context)
            builder = GraphBuilder(context, exact=exact, on_cpu=backend.is_cpu)
            self._output = build(builder)
            self.n_threads = min(backend.n_threads, 1 + builder.n_operations // _OPERATIONS_PER_THREAD)
            self._inputs = builder.inputs
            self._graph = ggml.ggml_new_graph_custom(context, n_nodes, False)
            ggml.ggml_set_output(self._output.handle)
            ggml.ggml_build_forward_expand(self._graph, self._output.handle)
            self._scheduler = self._allocate(n_nodes, stack)
            self._stack = stack.pop_all()
        self.output_shape = _trimmed(self._output.ne)
        self.cpu_operations = self._find_cpu_operations()

    def _allocate(self, n_nodes: int, stack: ExitStack) -> gb.Scheduler:
        handles = self._backend.handles
        array = (ctypes.c_void_p * len(handles))(*handles)
        scheduler = gb.ggml_backend_sched_new(array, None, len(handles), n_nodes, False, False)
        stack.callback(gb.ggml_backend_sched_free, scheduler)
        if not gb.ggml_backend_sched_alloc_graph(scheduler, self._graph):
            message = f"{self._backend.device.name} has too little free memory; choose --device cpu or close programs"
            raise DeviceError(with_troubles(message))
        return scheduler

    def _find_cpu_operations(self) -> Counter[str]:
        found: Counter[str] = Counter()
        if self._backend.is_cpu:
            return found
        cpu = self._backend.handles[-1]
        for index in range(ggml.ggml_graph_n_nodes(self._graph)):
            node = ggml.ggml_graph_node(self._graph, index)
            if gb.ggml_backend_sched_get_tensor_backend(self._scheduler, node) == cpu:
                found[ggml.ggml_op_desc(node).decode()] += 1
        return found

    @property
    def working_bytes(self) -> int:
        """Working memory on all devices."""
        handles = self._backend.handles
        return sum(gb.ggml_backend_sched_get_buffer_size(self._scheduler, handle) for handle in handles)

    def run(
        self, inputs: Mapping[str, NDArray[np.generic]], cancel: Callable[[], bool] | None = None
    ) -> NDArray[np.float32]:
        """Compute once.

        Args:
            inputs: an array for every declared input, of its shape; converted to its dtype.
            cancel: asked between operations, on this thread; True stops.

        Returns:
            float32 of ``output_shape``.

        Raises:
            Cancelled: ``cancel`` said so.
            NativeCallError: the computation failed.
        """
        for name, (node, shape, dtype) in self._inputs.items():
            _upload(node, np.ascontiguousarray(inputs[name], dtype), shape)
        self.compute(cancel)
        return self._download()

    def compute(self, cancel: Callable[[], bool] | None = None) -> None:
        """Compute with the inputs that are there; see :meth:`run`."""
        self._backend.use_threads(self.n_threads)
        with noted_interrupts() as interrupts:
            self._backend.set_cancel(lambda: bool(interrupts) or (cancel is not None and cancel()))
            try:
                status = gb.ggml_backend_sched_graph_compute(self._scheduler, self._graph)
            finally:
                self._backend.set_cancel(None)
        self._backend.raise_interruption()
        if status == gb.STATUS_ABORTED:
            raise Cancelled
        if status != gb.STATUS_SUCCESS:
            fail("ggml_backend_sched_graph_compute", f"on {self._backend.device.name}; try --device cpu", status)

    def _download(self) -> NDArray[np.float32]:
        result = np.empty(self.output_shape, np.float32)
        gb.ggml_backend_tensor_get(self._output.handle, result.ctypes.data, 0, result.nbytes)
        return result

    def close(self) -> None:
        """Free the graph and its memory."""
        self._stack.close()


def _trimmed(ne: tuple[int, int, int, int]) -> tuple[int, ...]:
    shape: tuple[int, ...] = ne[::-1]
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _upload(node: Node, array: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"graph input has shape {array.shape}, not {shape}")
    gb.ggml_backend_tensor_set(node.handle, array.ctypes.data, 0, array.nbytes)


class GraphCache:
    """The most recently used graphs by key; the others are freed."""

    def __init__(self, capacity: int) -> None:
        """Keep at most ``capacity`` graphs."""
        self._capacity = capacity
        self._graphs: OrderedDict[Hashable, CompiledGraph] = OrderedDict()

    def get(self, key: Hashable, compile_graph: Callable[[], CompiledGraph]) -> CompiledGraph:
        """The graph for ``key``; compiled, and the oldest freed, if it is not there."""
        graph = self._graphs.get(key)
        if graph is None:
            while len(self._graphs) >= self._capacity:
                self._graphs.popitem(last=False)[1].close()
            graph = self._graphs[key] = compile_graph()
        self._graphs.move_to_end(key)
        return graph

    def __len__(self) -> int:
        return len(self._graphs)

    def cpu_operations(self) -> Counter[str]:
        """Operations of the kept graphs that the device lacks, with counts."""
        return sum((graph.cpu_operations for graph in self._graphs.values()), Counter())

    @property
    def working_bytes(self) -> int:
        """Working memory of the kept graphs."""
        return sum(graph.working_bytes for graph in self._graphs.values())

    def clear(self) -> None:
        """Free all."""
        while self._graphs:
            self._graphs.popitem()[1].close()


class GraphOwner(Closing):
    """Base of the encoders' parts: each keeps the graphs it compiled for the shapes it met."""

    def __init__(self, capacity: int) -> None:
        """Keep at most ``capacity`` graphs."""
        self._graphs = GraphCache(capacity)

    @property
    def cpu_operations(self) -> Counter[str]:
        """Operations the device lacks, with counts."""
        return self._graphs.cpu_operations()

    @property
    def working_bytes(self) -> int:
        """Working memory of the kept graphs."""
        return self._graphs.working_bytes

    def close(self) -> None:
        """Free the graphs."""
        self._graphs.clear()


def convert(backend: Backend, pairs: list[tuple[Node, Node]]) -> None:
    """Convert tensors into others of the same shape and a wider type, on the backend's threads.

    Args:
        backend: the CPU.
        pairs: source and destination, both with memory.

    Raises:
        DeviceError: too little memory.
        NativeCallError: the libraries failed.
    """
    for source, destination in pairs:
        conversion = CompiledGraph(backend, partial(_build_copy, source, destination), n_nodes=8, exact=True)
        try:
            conversion.compute()
        finally:
            conversion.close()


def _build_copy(source: Node, destination: Node, builder: GraphBuilder) -> Node:
    return builder.copy(source, destination)
