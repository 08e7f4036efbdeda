"""Both encoders in PyTorch float32, eager: what the speed of ours is compared with.

Written as the published code runs them (explicit attention with the softmax in float32, one
batch of crops, no fused kernels) on the same weights. Needs the extra ``reference``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from app.runtime.encoders.vision import flatten_patches
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.params import AudioParams, VisionParams
from app.runtime.vision.tiling import position_ids

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.runtime.vision.tiling import Tiles

_CROPS_PER_BATCH = 4  # more only costs memory


def use_threads(n_threads: int) -> None:
    """Let PyTorch compute on so many threads."""
    torch.set_num_threads(n_threads)


class _Peer:
    """Weights of a float32 encoder file by name."""

    def __init__(self, path: Path, params_type: type[Any]) -> None:
        file = GgufFile(path)
        self.params = params_type.from_metadata(file.metadata, str(path))
        self.weights = {name: torch.from_numpy(tensor.float32().copy()) for name, tensor in file.items()}

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, self.params.layer_norm_epsilon)

    def attention(self, x: torch.Tensor, qkv: str, out: str, bias: torch.Tensor | None) -> torch.Tensor:
        """Rows of x, shape (batch, n, width); ``bias`` is added to the scores."""
        batch, n, width = x.shape
        size = width // self.params.head_count
        heads = self.linear(x, qkv).view(batch, n, 3, -1, size).permute(2, 0, 3, 1, 4)
        q, k, v = (part.contiguous() for part in heads)
        scores = torch.matmul(q, k.transpose(2, 3)) * size**-0.5
        if bias is not None:
            scores = scores + bias
        mixed = torch.matmul(functional.softmax(scores, dim=-1, dtype=torch.float32), v)
        return self.linear(mixed.transpose(1, 2).reshape(batch, n, width), out)


class TorchVision(_Peer):
    """SigLIP tower and projector."""

    def __init__(self, path: Path) -> None:
        """Read a float32 ``vision-encoder.gguf``."""
        super().__init__(path, VisionParams)

    @torch.inference_mode()
    def encode(self, tiles: Tiles) -> NDArray[np.float32]:
        """Rows of one picture, shape (n_tokens, projection_length)."""
        starts = range(0, len(tiles.pixels), _CROPS_PER_BATCH)
        pooled = torch.cat([self._tower(tiles, slice(start, start + _CROPS_PER_BATCH)) for start in starts])
        rows = self._rows(pooled, tiles)
        projected: NDArray[np.float32] = self.linear(
            functional.gelu(self.linear(rows, "v.proj_up")), "v.proj_down"
        ).numpy()
        return projected

    def _tower(self, tiles: Tiles, part: slice) -> torch.Tensor:
        kernel, side = self.weights["v.patch_embd.weight"], self.params.patches_per_side
        patches = flatten_patches(tiles.pixels[part], self.params.patch_size)[..., : kernel.shape[1]]
        masks = tiles.patch_mask[part]
        ids = np.stack([position_ids(mask, self.params.position_grid) for mask in masks])
        x = functional.linear(torch.from_numpy(patches), kernel, self.weights["v.patch_embd.bias"])
        x = x + self.weights["v.position_embd.weight"][torch.from_numpy(ids).long()]
        keys = torch.from_numpy(masks.reshape(len(masks), 1, 1, -1))
        bias = None if masks.all() else torch.zeros(keys.shape).masked_fill(~keys, float("-inf"))
        for index in range(self.params.block_count):
            x = self._block(x, bias, f"v.blk.{index}")
        grid = x.transpose(1, 2).reshape(len(masks), -1, side, side)
        return functional.avg_pool2d(grid, 2).permute(0, 2, 3, 1)

    def _block(self, x: torch.Tensor, bias: torch.Tensor | None, name: str) -> torch.Tensor:
        x = x + self.attention(self.norm(x, f"{name}.ln1"), f"{name}.attn_qkv", f"{name}.attn_out", bias)
        inner = functional.gelu(self.linear(self.norm(x, f"{name}.ln2"), f"{name}.ffn_up"), approximate="tanh")
        return x + self.linear(inner, f"{name}.ffn_down")

    def _rows(self, pooled: torch.Tensor, tiles: Tiles) -> torch.Tensor:
        cells, width = pooled.shape[1], pooled.shape[3]
        grid = pooled[1:].view(tiles.rows, tiles.columns, cells, cells, width).transpose(1, 2)
        picture = grid.reshape(tiles.rows * cells, tiles.columns * cells, width)[
            : tiles.kept_rows, : tiles.kept_columns
        ]
        parts = [self._lines(picture), self.weights["v.global_separator"].view(1, -1), self._lines(pooled[0])]
        return torch.cat(parts)

    def _lines(self, cells: torch.Tensor) -> torch.Tensor:
        ends = self.weights["v.sub_separator"].expand(len(cells), 1, -1)
        return torch.cat([cells, ends], dim=1).reshape(-1, cells.shape[2])


class TorchAudio(_Peer):
    """Conformer and speech projector, for sound of at most one block."""

    def __init__(self, path: Path) -> None:
        """Read a float32 ``audio-encoder.gguf``."""
        super().__init__(path, AudioParams)

    @torch.inference_mode()
    def encode(self, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows of one clip, shape (ceil(n / 8), projection_length)."""
        x = self._subsample((torch.from_numpy(log_mel) - self.weights["a.mean"]) * self.weights["a.invstd"])
        position, limit = torch.arange(x.shape[1]), self.params.bias_max_distance
        distance = (position[None, :] - position[:, None]).clamp(-limit, limit - 1) + limit
        bias = self.weights["a.rel_bias"][distance].permute(2, 0, 1)[None]
        for index in range(self.params.block_count):
            x = self._block(x, bias, f"a.blk.{index}")
        inner = functional.gelu(self.linear(x[0], "a.proj.speech.up"))
        projected: NDArray[np.float32] = self.linear(inner, "a.proj.speech.down").numpy()
        return projected

    def _subsample(self, features: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self._conv(features[None, None], "conv0", groups=1))
        for stage in ("1", "2"):
            x = self._conv(x, f"dw{stage}", groups=self.params.conv_channels)
            weight, bias = self.weights[f"a.sub.pw{stage}.weight"], self.weights[f"a.sub.pw{stage}.bias"]
            x = functional.relu(functional.conv2d(x, weight[:, :, None, None], bias))
        return self.linear(x.transpose(1, 2).reshape(1, x.shape[2], -1), "a.sub.out")

    def _conv(self, x: torch.Tensor, name: str, groups: int) -> torch.Tensor:
        weight, bias = self.weights[f"a.sub.{name}.weight"], self.weights[f"a.sub.{name}.bias"]
        return functional.conv2d(x, weight, bias, stride=2, padding=1, groups=groups)

    def _block(self, x: torch.Tensor, bias: torch.Tensor, name: str) -> torch.Tensor:
        x = x + 0.5 * self._feed_forward(x, f"{name}.ffn1")
        x = x + self.attention(self.norm(x, f"{name}.attn.norm"), f"{name}.attn.qkv", f"{name}.attn.out", bias)
        x = x + self._convolution(x, f"{name}.conv")
        x = x + 0.5 * self._feed_forward(x, f"{name}.ffn2")
        return self.norm(x, f"{name}.norm")

    def _feed_forward(self, x: torch.Tensor, name: str) -> torch.Tensor:
        value, gate = self.linear(self.norm(x, f"{name}.norm"), f"{name}.up").chunk(2, dim=-1)
        return self.linear(value * functional.silu(gate), f"{name}.down")

    def _convolution(self, x: torch.Tensor, name: str) -> torch.Tensor:
        value, gate = self.linear(self.norm(x, f"{name}.norm"), f"{name}.glu").chunk(2, dim=-1)
        weight, bias = self.weights[f"{name}.dw.weight"], self.weights[f"{name}.dw.bias"]
        series = functional.pad((value * functional.silu(gate)).transpose(1, 2), (weight.shape[1] - 1, 0))
        mixed = functional.conv1d(series, weight[:, None], bias, groups=len(weight)).transpose(1, 2)
        return self.linear(functional.silu(self.linear(mixed, f"{name}.pw1")), f"{name}.pw2")
