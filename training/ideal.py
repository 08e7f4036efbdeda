"""Ideal media rows: what a perfect encoder would tell the language model.

They let the language model learn to count, locate, compare and read long before the encoders can see or hear: a
picture's row is the sum of embeddings of what its four patches show, a clip's rows are the embeddings of its tokens,
stretched and blurred.
The encoders are later pulled towards these rows, so that both halves meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .domain.words import GLYPHS
from .labels import CENTRE, CLASSES, COLOUR, GLYPH, SHAPE, SIZE, patch_labels
from .model import GRID
from .samples import Clip, Picture
from .tiling import Plan, plan

if TYPE_CHECKING:
    from random import Random

    from .tokenizer import Codec

_KINDS = (SHAPE, COLOUR, SIZE)


class IdealRows(nn.Module):
    """Embeddings of patch content, of object centres and of separators, in the language model's width.

    A glyph's row is the embedding of its letter's token (plus its place in the cell): reading is copying.
    """

    def __init__(self, width: int, codec: Codec) -> None:
        super().__init__()
        self.letters = [codec.special("<|endoftext|>")] + [codec.encode(glyph)[0] for glyph in GLYPHS]
        self.cover = nn.ModuleList(nn.Embedding(CLASSES[kind], width) for kind in _KINDS)
        self.centre = nn.ModuleList(nn.Embedding(CLASSES[kind], width) for kind in _KINDS)
        self.glyph = nn.Embedding(4 * CLASSES[GLYPH], width)
        self.separators = nn.Embedding(2, width)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.04)

    def cells(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """Labels [n, 8, 8, channels] and the token embeddings -> rows of the pooled cells [n, 4, 4, width]."""
        half = GRID // 2
        patches = labels.view(-1, half, 2, half, 2, labels.shape[-1]).permute(0, 1, 3, 2, 4, 5).flatten(3, 4)
        rows = 0
        flags = patches[..., CENTRE, None]
        for table, centre, kind in zip(self.cover, self.centre, _KINDS, strict=True):
            present = (patches[..., kind, None] > 0).float()
            rows = (
                rows + (table(patches[..., kind]) * present).sum(3) * 0.5 + (centre(patches[..., kind]) * flags).sum(3)
            )
        offset = torch.arange(4) * CLASSES[GLYPH]
        glyphs = (patches[..., GLYPH, None] > 0).float()
        letters = tokens[self.letters][patches[..., GLYPH]]
        return rows + ((letters + self.glyph(patches[..., GLYPH] + offset)) * glyphs).sum(3)

    def picture(self, picture: Picture, tokens: Tensor) -> Tensor:
        """All rows of one picture, in prompt order."""
        layout = plan(*picture.size)
        labels = torch.from_numpy(patch_labels(picture.content, layout, picture.size))
        return self.assemble(self.cells(labels, tokens), layout)

    def assemble(self, cells: Tensor, layout: Plan) -> Tensor:
        """Cells [1 + n, 4, 4, width] with separators, sub view first."""
        size, width = cells.shape[1], cells.shape[-1]
        grid = cells[1:].view(layout.rows, layout.columns, size, size, width).transpose(1, 2)
        grid = grid.reshape(layout.rows * size, layout.columns * size, width)
        grid = grid[: layout.useful_rows, : layout.useful_columns]
        line, view = self.separators.weight
        sub = torch.cat([grid, line.expand(layout.useful_rows, 1, width)], 1).flatten(0, 1)
        whole = torch.cat([cells[0], line.expand(size, 1, width)], 1).flatten(0, 1)
        return torch.cat([sub, view[None], whole])

    def pictures(self, pictures: list[Picture], tokens: Tensor, noise: float) -> Tensor:
        """Rows of several pictures, with some noise so that the language model does not rely on exact values."""
        rows = torch.cat([self.picture(picture, tokens) for picture in pictures])
        return rows + noise * torch.randn_like(rows)


def ideal_clip(rng: Random, codec: Codec, text: str) -> Clip:
    """A clip of the sentence with a length as speech would have."""
    tokens = codec.encode(text)
    return Clip(text, tokens=len(tokens) * rng.randint(2, 4) + rng.randint(2, 10))


def clip_rows(rng: Random, codec: Codec, embedding: Tensor, clip: Clip, noise: float) -> Tensor:
    """Rows of a clip: blanks with a spike (of one or two rows) per token, roughly in proportion."""
    tokens = codec.encode(clip.text)
    blank = codec.special("<|endoftext|>")
    ids = np.full(clip.tokens, blank)
    lead = rng.randint(0, max(0, min(4, clip.tokens - 2 * len(tokens) - 1)))
    step = (clip.tokens - lead) / len(tokens)
    for index, token in enumerate(tokens):
        start = lead + int(index * step + rng.random() * max(0.0, step - 1.5))
        ids[start] = token
        if rng.random() < 0.4 and start + 1 < clip.tokens and step >= 2:
            ids[start + 1] = token
    rows = embedding[torch.from_numpy(ids)]
    return rows + noise * torch.randn_like(rows)
