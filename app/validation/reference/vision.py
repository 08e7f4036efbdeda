"""Crops to embedding rows: the tower, pooling, separators and projector in eager float32 (phi4mm 3.2 to 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from app.common.errors import ValidationError
from app.validation.reference.settings import IMAGE_EMBED, Vision

if TYPE_CHECKING:
    from app.validation.reference.checkpoint import Checkpoint
    from app.validation.reference.pictures import Crops

LAYER_NORM_EPSILON = 1e-6
TOWER = f"{IMAGE_EMBED}.img_processor"


def linear(checkpoint: Checkpoint, name: str, x: torch.Tensor) -> torch.Tensor:
    """``x`` (..., in) through a linear module with bias."""
    return functional.linear(x, checkpoint[f"{name}.weight"], checkpoint.get(f"{name}.bias"))


def layer_norm(checkpoint: Checkpoint, name: str, x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """``x`` (..., d) through a LayerNorm module."""
    return functional.layer_norm(x, x.shape[-1:], checkpoint[f"{name}.weight"], checkpoint[f"{name}.bias"], epsilon)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, bias: torch.Tensor | None) -> torch.Tensor:
    """Plain attention of (n, d) queries, keys, values; ``bias`` (heads, n, n) or broader is added to scaled scores."""
    q, k, v = (x.view(x.shape[0], heads, -1).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
    weights = torch.softmax(scores if bias is None else scores + bias, dim=-1)
    return (weights @ v).transpose(0, 1).reshape(q.shape[1], -1)


class VisionReference:
    """The picture path of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint, settings: Vision) -> None:
        """Take the weights; ``check_bidirectional`` is up to the caller."""
        self.checkpoint = checkpoint
        self.settings = settings
        self.epsilon = float((checkpoint.config.get("vision_config") or {}).get("layer_norm_eps", LAYER_NORM_EPSILON))
        self.layers = checkpoint.count(f"{TOWER}.encoder.layers") + 1 + settings.feature_layer

    def embed(self, crops: Crops) -> torch.Tensor:
        """Rows (n_tokens, hidden) as the language model is fed with."""
        cells = torch.stack([self.pooled(self.tower(p, m)) for p, m in zip(crops.pixels, crops.masks, strict=True)])
        rows = self.layout(cells, crops)
        up = functional.gelu(linear(self.checkpoint, f"{IMAGE_EMBED}.img_projection_up", rows))
        return linear(self.checkpoint, f"{IMAGE_EMBED}.img_projection_down", up)

    def tower(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One crop (3, crop, crop) with its mask (p, p) to patch features (p * p, d)."""
        conv = f"{TOWER}.embeddings.patch_embedding"
        patches = functional.conv2d(
            pixels[None], self.checkpoint[f"{conv}.weight"], self.checkpoint[f"{conv}.bias"], stride=self.settings.patch
        )
        x = patches[0].flatten(1).T
        x = x + self.checkpoint[f"{TOWER}.embeddings.position_embedding.weight"][self.position_ids(mask)]
        bias = torch.zeros(mask.numel()).masked_fill(~mask.flatten(), -torch.inf)
        for index in range(self.layers):
            x = self._block(f"{TOWER}.encoder.layers.{index}", x, bias)
        return x

    def position_ids(self, mask: torch.Tensor) -> torch.Tensor:
        """Rows of the position table (p * p,): the valid part of a crop is stretched over the whole table."""
        grid = self.settings.grid
        valid_rows, valid_columns = int(mask[:, 0].sum()), int(mask[0].sum())
        by_row = torch.arange(mask.shape[0]) * grid // max(valid_rows, 1)
        by_column = torch.arange(mask.shape[1]) * grid // max(valid_columns, 1)
        return torch.where(mask, by_row[:, None] * grid + by_column, 0).flatten()

    def _block(self, name: str, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = layer_norm(self.checkpoint, f"{name}.layer_norm1", x, self.epsilon)
        q, k, v = (linear(self.checkpoint, f"{name}.self_attn.{part}_proj", y) for part in "qkv")
        x = x + linear(self.checkpoint, f"{name}.self_attn.out_proj", attention(q, k, v, self.settings.heads, bias))
        y = layer_norm(self.checkpoint, f"{name}.layer_norm2", x, self.epsilon)
        y = functional.gelu(linear(self.checkpoint, f"{name}.mlp.fc1", y), approximate="tanh")
        return x + linear(self.checkpoint, f"{name}.mlp.fc2", y)

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """Patch features (p * p, d) to 2x2 cell means (p / 2, p / 2, d)."""
        side = self.settings.crop // self.settings.patch
        grid = features.view(side, side, -1).permute(2, 0, 1)
        return functional.avg_pool2d(grid[None], 2)[0].permute(1, 2, 0)

    def layout(self, cells: torch.Tensor, crops: Crops) -> torch.Tensor:
        """Cells (1 + crops, g, g, d) to rows: sub image with row ends, global separator, global view with row ends."""
        side = cells.shape[1]
        sub = (
            cells[1:]
            .view(crops.rows, crops.columns, side, side, -1)
            .transpose(1, 2)
            .reshape(crops.rows * side, crops.columns * side, -1)
        )
        valid = (
            crops.masks[1:, 0::2, 0::2]
            .reshape(crops.rows, crops.columns, side, side)
            .transpose(1, 2)
            .reshape(crops.rows * side, -1)
        )
        sub = sub[: int(valid[:, 0].sum()), : int(valid[0].sum())]
        separator = self.checkpoint[f"{IMAGE_EMBED}.global_img_feature_extensor"].view(1, -1)
        return torch.cat([self._with_row_ends(sub), separator, self._with_row_ends(cells[0])])

    def _with_row_ends(self, grid: torch.Tensor) -> torch.Tensor:
        end = self.checkpoint[f"{IMAGE_EMBED}.sub_img_feature_extensor"].view(1, 1, -1).expand(grid.shape[0], 1, -1)
        return torch.cat([grid, end], dim=1).flatten(0, 1)

    def check_bidirectional(self) -> None:
        """Refuse a tower in which a late patch cannot be seen from an early one (the trap of a causal reference).

        Raises:
            ValidationError: the tower is causal, so nothing recorded with it would be true.
        """
        crop, side = self.settings.crop, self.settings.crop // self.settings.patch
        pixels = torch.linspace(-1, 1, 3 * crop * crop).view(3, crop, crop)
        changed = pixels.clone()
        changed[:, -self.settings.patch :, -self.settings.patch :] *= -1
        mask = torch.ones(side, side, dtype=torch.bool)
        early = [self.tower(picture, mask)[0] for picture in (pixels, changed)]
        if torch.equal(early[0], early[1]):
            raise ValidationError(
                "the reference's vision tower is causal: an early patch does not see a late one; use eager attention"
            )
