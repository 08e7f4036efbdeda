"""The two-layer projector from encoder rows to rows of the language model (phi4mm 3.5 g, 4.5 7)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.runtime.encoders.compiled import CompiledGraph, GraphOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend
    from app.runtime.encoders.graph import GraphBuilder, Linear, Node

_ROWS_PER_RUN = 1024  # bounds working memory
_CACHED_GRAPHS = 2


class Projector(GraphOwner):
    """Linear, exact GELU, linear, on every row alone."""

    def __init__(self, up: Linear, down: Linear, backend: Backend, *, exact: bool) -> None:
        """Use loaded weights."""
        self._layers = (up, down)
        self._backend = backend
        self._exact = exact
        super().__init__(_CACHED_GRAPHS)

    def project(self, rows: NDArray[np.float32], cancel: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Project rows, shape (n, width), to shape (n, projection_length).

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        result = np.empty((len(rows), self._layers[1].weight.ne[1]), np.float32)
        for start in range(0, len(rows), _ROWS_PER_RUN):
            part = rows[start : start + _ROWS_PER_RUN]
            graph = self._graphs.get(len(part), partial(self._compile, *part.shape))
            result[start : start + len(part)] = graph.run({"rows": part}, cancel)
        return result

    def _compile(self, n_rows: int, width: int) -> CompiledGraph:
        build = partial(self._build, shape=(n_rows, width))
        return CompiledGraph(self._backend, build, n_nodes=32, exact=self._exact)

    def _build(self, b: GraphBuilder, shape: tuple[int, int]) -> Node:
        up, down = self._layers
        return b.linear(b.gelu_erf(b.linear(b.input("rows", shape), up)), down)
