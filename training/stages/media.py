"""The whole model with adapters, put together from the checkpoints of earlier stages, and how it sees and hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.domain.scenes import Scene
from training.drawing import draw_scene, draw_unknown, draw_word
from training.fast import speed_up
from training.hearing import clip_batch
from training.ideal import IdealRows
from training.model import add_adapters, build, demo_config, hear, image_rows, see
from training.packing import Packer
from training.samples import Clip, Dialogue, Picture
from training.tiling import cut
from training.tokenizer import VOCABULARY, load_codec

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from PIL import Image

    from training.clips import ClipStore


def _state(folder: Path, name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / f"{name}.pt", weights_only=True)["model"]
    return state


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(prefix + ".")}


class MediaModel:
    """The whole model with adapters, put together from the checkpoints of the earlier stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codec = load_codec(folder / "tokenizer.json")
        self.packer = Packer(self.codec)
        self.model = build(demo_config(self.codec))
        self.ideal = IdealRows(self.model.config.hidden_size, self.codec)
        self.ctc = nn.Linear(self.model.config.audio_config.hidden_size, VOCABULARY)
        embed = self.model.model.embed_tokens_extend
        self.image, self.audio = embed.image_embed, embed.audio_embed
        speed_up(self.audio.encoder)
        self._load_base()
        self._quieten_projectors()
        add_adapters(self.model)
        self.ideal.requires_grad_(False)

    def _load_base(self) -> None:
        base = _state(self.folder, "base")
        for name, module in (
            ("embed", self.model.model.embed_tokens),
            ("layers", self.model.model.layers),
            ("norm", self.model.model.norm),
            ("ideal", self.ideal),
        ):
            module.load_state_dict(_part(base, name))

    @torch.no_grad()
    def _quieten_projectors(self) -> None:
        """Start the media rows at the size of token embeddings instead of ten times above it."""
        audio = self.audio
        for layer in (self.image.img_projection_down, audio.down_proj_for_speech, audio.down_proj_for_vision_speech):
            layer.weight.mul_(0.1)

    def load_tower(self) -> None:
        """The dense pre-trained tower."""
        self.image.img_processor.load_state_dict(_part(_state(self.folder, "vision"), "tower"))

    def load_encoder(self) -> None:
        """The CTC pre-trained encoder with its head."""
        audio = _state(self.folder, "audio")
        self.audio.encoder.load_state_dict(_part(audio, "encoder"))
        self.ctc.load_state_dict(_part(audio, "head"))

    def load_joint(self) -> None:
        """Everything from the last stage."""
        self.model.load_state_dict(_part(_state(self.folder, "joint"), "model"))

    def picture_rows(self, pictures: list[Picture], rng: Random, learn: bool) -> Tensor:
        """Draw the pictures and encode them; without ``learn`` the tower gets no gradient."""
        cuts = [cut(_drawn(picture, rng)) for picture in pictures]
        crops, masks, order = [], [], []
        for _, tiles, valid in cuts:
            twin = len(tiles) == 2 and bool(valid.all())  # one full crop: its global view is the same picture
            order += [len(crops), len(crops) + (0 if twin else 1), *range(len(crops) + 2, len(crops) + len(tiles))]
            crops += tiles[: 1 if twin else None]
            masks += valid[: 1 if twin else None]
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            pooled = see(self.model, torch.stack(crops), torch.stack(masks))[order]
        return image_rows(self.model, pooled, [layout for layout, _, _ in cuts])

    def encode_clips(self, store: ClipStore, clips: list[Clip], rng: Random | None, learn: bool) -> Tensor:
        """Encode recordings together and set how many rows each takes."""
        features, _ = clip_batch(store, [clip.source for clip in clips], rng)
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            hidden = hear(self.model, features)
        for clip in clips:
            clip.tokens = hidden.shape[1]
        return hidden


def _drawn(picture: Picture, rng: Random) -> Image.Image:
    content = picture.content
    if content is None:
        return draw_unknown(rng).resize(picture.size)
    return draw_scene(rng, content) if isinstance(content, Scene) else draw_word(rng, content)


def media_clips(dialogues: list[Dialogue]) -> list[Clip]:
    """All clips of some dialogues, in prompt order."""
    parts = [p for d in dialogues for p in [*d.shared, *(q for tail in d.tails for turn in tail for q in turn.parts)]]
    return [part for part in parts if isinstance(part, Clip)]


def distance(rows: Tensor, goal: Tensor) -> Tensor:
    """Squared distance, relative to the size of the goal."""
    return (rows - goal).pow(2).mean() / goal.pow(2).mean()
