"""Stage 2a: the vision tower learns what every patch shows; the heads it needs for that are thrown away."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.domain.scenes import Scene, random_scene
from training.domain.words import GLYPHS
from training.drawing import Word, draw_scene, draw_unknown, draw_word, place_word
from training.labels import CENTRE, CLASSES, COLOUR, GLYPH, GLYPH_COVER, SHAPE, SIZE, patch_labels
from training.model import CROP, GRID, build, demo_config, see
from training.tiling import cut
from training.tokenizer import load_codec

from .common import Stage, optimiser, reseed

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = 8
WHOLE_SHARE = 0.5
# Weight of each channel, and of its class "nothing".
_CHANNELS = {
    SHAPE: (1.0, 0.3),
    COLOUR: (0.5, 0.3),
    SIZE: (0.4, 0.3),
    CENTRE: (1.0, 0.25),
    GLYPH: (1.5, 0.15),
    GLYPH_COVER: (1.0, 0.15),
}


def random_content(rng: Random, held: bool, size: tuple[int, int] | None) -> Scene | Word | None:
    """Half words of random letters, half scenes, and a few pictures of nothing known."""
    kind = rng.random()
    if kind < 0.5:
        text = "".join(rng.choice(GLYPHS) for _ in range(rng.randint(1, 6 if size is None else 5)))
        return place_word(rng, text, held, size)
    return random_scene(rng, held, size=size) if kind < 0.97 or held else None


class VisionStage:
    """The tower with its dense heads."""

    def __init__(self, folder: Path) -> None:
        self.model = build(demo_config(load_codec(folder / "tokenizer.json")))
        image = self.model.model.embed_tokens_extend.image_embed
        width = self.model.config.vision_config.hidden_size
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * sum(CLASSES)))
        self.modules = nn.ModuleDict({"tower": image.img_processor, "head": self.head})
        self.rng = Random(31)

    def batch(self, rng: Random, count: int, held: bool, whole_only: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Crops, masks and labels (-1 on padding); with ``whole_only`` only pictures that are one crop."""
        crops, masks, labels = [], [], []
        for _ in range(count):
            side = rng.randint(84, CROP)
            content = random_content(rng, held, (side, side) if whole_only else None)
            drawn = (
                draw_unknown(rng)
                if content is None
                else (draw_scene(rng, content) if isinstance(content, Scene) else draw_word(rng, content))
            )
            layout, tiles, valid = cut(drawn)
            target = torch.from_numpy(patch_labels(content, layout, drawn.size))
            twin = len(tiles) == 2 and bool(valid.all())  # the global view is the same picture
            kept = slice(0, 1) if whole_only or twin else slice(0, None)
            crops.append(tiles[kept])
            masks.append(valid[kept])
            labels.append(target.masked_fill(~valid[..., None], -1)[kept])
        return torch.cat(crops), torch.cat(masks), torch.cat(labels)

    def predict(self, crops: Tensor, masks: Tensor) -> list[Tensor]:
        """Class scores per channel, each [n, 8, 8, classes]."""
        half = GRID // 2
        scores = self.head(see(self.model, crops, masks)).float()
        scores = (
            scores.view(-1, half, half, 2, 2, sum(CLASSES))
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(-1, GRID, GRID, sum(CLASSES))
        )
        return list(scores.split(CLASSES, dim=-1))

    def loss(self, stage: Stage) -> Tensor:
        """Weighted cross-entropy of all channels; whole small pictures first, then tiles, which often cut things."""
        reseed(self.rng, 31, stage.step)
        whole_only = stage.start is None and stage.progress < WHOLE_SHARE
        crops, masks, labels = self.batch(self.rng, PICTURES * (4 if whole_only else 1), False, whole_only)
        predicted = self.predict(crops, masks)
        total = torch.zeros(())
        for channel, (weight, nothing) in _CHANNELS.items():
            classes = torch.ones(CLASSES[channel])
            classes[0] = nothing
            flat = predicted[channel].reshape(-1, CLASSES[channel])
            total = total + weight * F.cross_entropy(flat, labels[..., channel].flatten(), classes, ignore_index=-1)
        stage.note(dense=total)
        return total

    def evaluate(self) -> str:
        """Share of non-empty patches right, per channel; new scenes, then held-out pairs and fonts."""
        lines = []
        for name, held, whole in (("whole", False, True), ("new", False, False), ("held", True, False)):
            crops, masks, labels = self.batch(Random(5), 60, held, whole)
            predicted = self.predict(crops, masks)
            parts = []
            for channel, title in (
                (SHAPE, "shape"),
                (COLOUR, "colour"),
                (SIZE, "size"),
                (CENTRE, "centre"),
                (GLYPH, "glyph"),
            ):
                right = predicted[channel].argmax(-1) == labels[..., channel]
                filled, empty = labels[..., channel] > 0, labels[..., channel] == 0
                parts.append(f"{title} {right[filled].float().mean():.3f}/{right[empty].float().mean():.3f}")
            lines.append(f"{name}: " + " ".join(parts))
        return " | ".join(lines)


def run(folder: Path, minutes: float, name: str = "vision", start: str | None = None, peak: float = 1.5e-3) -> None:
    """Train the tower and write its checkpoint."""
    torch.set_num_threads(1)
    vision = VisionStage(folder)
    stage = Stage(name, folder, minutes, peak, start=start)
    stage.run(vision.modules, optimiser(vision.modules.parameters()), lambda: vision.loss(stage), vision.evaluate, 6)
