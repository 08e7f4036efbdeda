"""The picture encoder: SigLIP tower, 2x2 pooling, row assembly, projector (phi4mm 3.2 to 3.5).

The tower runs on batches of crops; its pooled cells come back to numpy, where they are cut,
stitched and interleaved with the separators; the projector then runs on the rows.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.common.closing import Closing
from app.runtime.encoders.compiled import CompiledGraph, GraphCache
from app.runtime.encoders.encoder_file import open_encoder_file
from app.runtime.encoders.layout import Layout, choose_layout
from app.runtime.encoders.projector import Projector
from app.runtime.encoders.weights import Weights, check_tensors
from app.runtime.formats.params import VisionParams
from app.runtime.vision.tiling import position_ids

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend
    from app.runtime.encoders.graph import GraphBuilder, Node
    from app.runtime.formats.gguf import GgufFile
    from app.runtime.vision.tiling import Tiles

ARCHITECTURE = "phi4mm-vision"
_CACHED_GRAPHS = 4
_PATCHES_PER_BATCH = {"cpu": 1024, "gpu": 8192, "igpu": 2048}  # bounds working memory; wider gains nothing


class VisionEncoder(Closing):
    """Pictures to rows of the language model; a context manager.

    Attributes:
        params: the model's dimensions.
    """

    def __init__(self, path: Path, backend: Backend, *, exact: bool = False, layout: Layout | None = None) -> None:
        """Load the weights.

        Args:
            path: vision-encoder.gguf.
            backend: where to compute; must outlive the encoder.
            exact: float32 throughout, no flash attention.
            layout: of the weights; None for the best on this device.

        Raises:
            ModelFormatError: the file is unusable.
            DeviceError: too little memory.
        """
        file, self.params = open_encoder_file(path, ARCHITECTURE, VisionParams)
        vectors, matrices = vision_tensors(self.params, _stored_feed_forward(file))
        check_tensors(file, vectors, matrices)
        self._separators = [file[f"v.{name}_separator"].float32().copy() for name in ("sub", "global")]
        self._backend = backend
        self._exact = exact
        with ExitStack() as stack:
            self._weights = Weights(file, [*vectors, *matrices], backend, layout or choose_layout(backend, exact=exact))
            stack.callback(self._weights.close)
            self._graphs = GraphCache(_CACHED_GRAPHS)
            stack.callback(self._graphs.clear)
            up, down = self._weights.linear("v.proj_up"), self._weights.linear("v.proj_down")
            self._projector = Projector(up, down, backend, exact=exact)
            stack.callback(self._projector.close)
            self._stack = stack.pop_all()

    def encode(self, tiles: Tiles, cancel: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Rows for the language model.

        Args:
            tiles: of one picture, made with the same parameters.
            cancel: asked between operations; True stops.

        Returns:
            float32, shape (tiles.n_tokens, projection_length).

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        rows = assemble_rows(self._pooled(tiles, cancel), tiles, *self._separators)
        return self._projector.project(rows, cancel)

    def _pooled(self, tiles: Tiles, cancel: Callable[[], bool] | None) -> NDArray[np.float32]:
        """Pooled cells of every crop, shape (n, g, g, width), g = patches per side / 2."""
        cells = self.params.patches_per_side // 2
        pooled = np.empty((len(tiles.pixels), cells, cells, self.params.embedding_length), np.float32)
        is_padded = ~tiles.patch_mask.all(axis=(1, 2))
        for masked in (False, True):
            members = np.flatnonzero(is_padded == masked)
            for start in range(0, len(members), self._batch_size):
                batch = members[start : start + self._batch_size]
                pooled[batch] = self._run_tower(tiles, batch, masked, cancel)
        return pooled

    @property
    def _batch_size(self) -> int:
        n_patches = self.params.patches_per_side**2
        return max(1, _PATCHES_PER_BATCH.get(self._backend.device.kind, 1024) // n_patches)

    def _run_tower(
        self, tiles: Tiles, batch: NDArray[np.intp], masked: bool, cancel: Callable[[], bool] | None
    ) -> NDArray[np.float32]:
        graph = self._graphs.get((len(batch), masked), partial(self._compile_tower, len(batch), masked))
        masks = tiles.patch_mask[batch]
        inputs: dict[str, NDArray[np.generic]] = {
            "patches": flatten_patches(tiles.pixels[batch], self.params.patch_size),
            "positions": np.concatenate([position_ids(mask, self.params.position_grid) for mask in masks]),
        }
        if masked:
            inputs["mask"] = key_mask(masks)
        cells = self.params.patches_per_side // 2
        return graph.run(inputs, cancel).reshape(len(batch), cells, cells, -1)

    def _compile_tower(self, n_crops: int, masked: bool) -> CompiledGraph:
        build = partial(self._build_tower, n_crops=n_crops, masked=masked)
        n_nodes = 64 + 48 * self.params.block_count
        return CompiledGraph(self._backend, build, n_nodes=n_nodes, exact=self._exact)

    def _build_tower(self, b: GraphBuilder, n_crops: int, masked: bool) -> Node:
        """Crops to pooled cells: (width, g * g * n_crops)."""
        n_patches = self.params.patches_per_side**2
        x = self._embed(b, n_crops, n_patches)
        mask = b.attention_mask(b.input("mask", (n_crops, 1, n_patches, n_patches))) if masked else None
        for index in range(self.params.block_count):
            x = self._block(b, x, mask, f"v.blk.{index}")
        return self._pool(b, x)

    def _embed(self, b: GraphBuilder, n_crops: int, n_patches: int) -> Node:
        """Patch and position embedding, (width, n_patches, n_crops)."""
        weights, n_values = self._weights, padded_length(3 * self.params.patch_size**2)
        patches = b.input("patches", (n_crops, n_patches, n_values))
        kernel = weights.node("v.patch_embd.weight")
        kernel = b.pad(kernel, n_values - kernel.ne[0])
        embedded = b.add(
            b.mat_mul(kernel, b.reshape(patches, n_values, n_patches * n_crops)), weights.node("v.patch_embd.bias")
        )
        positions = b.rows(
            weights.node("v.position_embd.weight"), b.input("positions", (n_crops * n_patches,), np.int32)
        )
        return b.reshape(b.add(embedded, positions), self.params.embedding_length, n_patches, n_crops)

    def _block(self, b: GraphBuilder, x: Node, mask: Node | None, name: str) -> Node:
        weights, epsilon = self._weights, self.params.layer_norm_epsilon
        qkv = b.linear(b.layer_norm(x, weights.norm(f"{name}.ln1", epsilon)), weights.linear(f"{name}.attn_qkv"))
        mixed = b.attention(qkv, self.params.head_count, mask)
        x = b.add(x, b.linear(mixed, weights.linear(f"{name}.attn_out")))
        inner = b.linear(b.layer_norm(x, weights.norm(f"{name}.ln2", epsilon)), weights.linear(f"{name}.ffn_up"))
        return b.add(x, b.linear(b.gelu_tanh(inner), weights.linear(f"{name}.ffn_down")))

    def _pool(self, b: GraphBuilder, x: Node) -> Node:
        """Mean of each 2x2 cell: neighbours in a row first, then neighbouring rows."""
        width, side, n_crops = self.params.embedding_length, self.params.patches_per_side, x.ne[2]
        pairs = b.reshape(x, width, side, side * n_crops)
        pairs = b.add(b.every_other_row(pairs, 0), b.every_other_row(pairs, 1))
        cells = b.reshape(pairs, width * (side // 2), side, n_crops)
        cells = b.add(b.every_other_row(cells, 0), b.every_other_row(cells, 1))
        return b.scale(b.reshape(cells, width, (side // 2) ** 2 * n_crops), 0.25)

    @property
    def cpu_operations(self) -> Counter[str]:
        """Operations of the graphs in use that the device lacks, with counts."""
        return self._graphs.cpu_operations() + self._projector.cpu_operations

    @property
    def working_bytes(self) -> int:
        """Memory of the kept graphs, without the weights."""
        return self._graphs.working_bytes + self._projector.working_bytes

    def close(self) -> None:
        """Free graphs and weights."""
        self._stack.close()


def padded_length(n_values: int) -> int:
    """Row length with the zeros that fast CPU products need: a multiple of 16."""
    return n_values + -n_values % 16


def flatten_patches(pixels: NDArray[np.float32], patch_size: int) -> NDArray[np.float32]:
    """Pixels of every patch as one row.

    Args:
        pixels: shape (n, 3, crop, crop).
        patch_size: side of a patch; divides the crop.

    Returns:
        shape (n, patches, 3 * patch_size**2 and zeros up to a multiple of 16); a row is in the
        order channel, line, column.
    """
    n, channels, crop, _ = pixels.shape
    side, n_values = crop // patch_size, channels * patch_size**2
    rows = np.zeros((n, side, side, padded_length(n_values)), np.float32)
    split = pixels.reshape(n, channels, side, patch_size, side, patch_size)
    rows[..., :n_values] = split.transpose(0, 2, 4, 1, 3, 5).reshape(n, side, side, n_values)
    return rows.reshape(n, side * side, -1)


def key_mask(patch_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """0 where a key may be attended, minus infinity where it is padding, for all queries.

    Args:
        patch_mask: shape (n, p, p).

    Returns:
        shape (n, 1, p * p, p * p), keys last.
    """
    n, n_patches = len(patch_mask), patch_mask.shape[1] ** 2
    keys = np.where(patch_mask.reshape(n, 1, 1, n_patches), np.float32(0), np.float32(-math.inf))
    return np.ascontiguousarray(np.broadcast_to(keys, (n, 1, n_patches, n_patches)))


def assemble_rows(
    pooled: NDArray[np.float32],
    tiles: Tiles,
    sub_separator: NDArray[np.float32],
    global_separator: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Sub image, separator, global view, in the order of the language model (phi4mm 3.5).

    Args:
        pooled: shape (1 + n_crops, g, g, width), the global view first.
        tiles: the picture's layout.
        sub_separator: shape (width,), ends every line of cells.
        global_separator: shape (width,), stands between.

    Returns:
        shape (tiles.n_tokens, width).
    """
    cells, width = pooled.shape[1], pooled.shape[3]
    stitched = pooled[1:].reshape(tiles.rows, tiles.columns, cells, cells, width).transpose(0, 2, 1, 3, 4)
    picture = stitched.reshape(tiles.rows * cells, tiles.columns * cells, width)
    kept = picture[: tiles.kept_rows, : tiles.kept_columns]
    return np.concatenate(
        [_with_line_ends(kept, sub_separator), global_separator[None], _with_line_ends(pooled[0], sub_separator)]
    )


def _with_line_ends(cells: NDArray[np.float32], separator: NDArray[np.float32]) -> NDArray[np.float32]:
    """(lines, columns, width) to rows with a separator after every line."""
    ends = np.broadcast_to(separator, (len(cells), 1, cells.shape[2]))
    return np.concatenate([cells, ends], axis=1).reshape(-1, cells.shape[2])


def _stored_feed_forward(file: GgufFile) -> int:
    """Width of the feed-forward layers in the file, which may be padded with zeros; 0 if unknown."""
    tensor = file.get("v.blk.0.ffn_up.weight")
    return tensor.shape[0] if tensor is not None else 0


def vision_tensors(
    params: VisionParams, stored_feed_forward: int = 0
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, int]]]:
    """Names and numpy shapes of the F32 tensors and of the matrices.

    Args:
        params: the model's dimensions.
        stored_feed_forward: width with padding; less than the true one stands for that.
    """
    d, n = params.embedding_length, params.projection_length
    ff = max(params.feed_forward_length, stored_feed_forward)
    matrices = {"v.proj_up.weight": (n, d), "v.proj_down.weight": (n, n)}
    vectors: dict[str, tuple[int, ...]] = {
        "v.patch_embd.weight": (d, 3 * params.patch_size**2),
        "v.patch_embd.bias": (d,),
        "v.position_embd.weight": (params.position_grid**2, d),
        "v.sub_separator": (d,),
        "v.global_separator": (d,),
        "v.proj_up.bias": (n,),
        "v.proj_down.bias": (n,),
    }
    for block in (f"v.blk.{index}" for index in range(params.block_count)):
        linears = {"attn_qkv": (3 * d, d), "attn_out": (d, d), "ffn_up": (ff, d), "ffn_down": (d, ff)}
        matrices |= {f"{block}.{name}.weight": shape for name, shape in linears.items()}
        vectors |= {f"{block}.{name}.bias": (shape[0],) for name, shape in linears.items()}
        vectors |= {f"{block}.{norm}.{kind}": (d,) for norm in ("ln1", "ln2") for kind in ("weight", "bias")}
    return vectors, matrices
