"""The last stage: everything learns together, in all four modes, by two processes that average their gradients.

The language model's own weights take part in every mode, its adapters in theirs: the base goes on improving while the
adapters, projectors and encoders settle on it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.model import set_mode
from training.packing import answer_logits, exact_answers, loss_of
from training.samples import text_dialogue

from .clip_work import ClipWork
from .common import Stage, Team, optimiser, reseed, scores
from .media import MediaModel
from .picture_work import PictureWork

if TYPE_CHECKING:
    from pathlib import Path

# Share of batches per kind.
KINDS = {"text": 0.08, "repeat": 0.01, "ideal": 0.22, "typed": 0.34, "spoken": 0.14, "clip": 0.21}
PEAK = 9e-4


class JointStage:
    """One model, batches of every kind."""

    def __init__(self, folder: Path, media: MediaModel, rank: int) -> None:
        self.media = media
        self.rank = rank
        self.rng = Random()
        self.kinds = Random()  # the same in every process: all do the same kind of batch at a time
        self.sight = PictureWork(folder, media)
        self.speech = ClipWork(folder, media)
        for module in (media.model.model.embed_tokens, media.model.model.layers, media.model.model.norm):
            module.requires_grad_(True)
        self.modules = nn.ModuleDict({"model": media.model, "ctc": media.ctc})

    def loss(self, stage: Stage) -> Tensor:
        """One batch of a random kind."""
        for rng, seed in ((self.kinds, 72), (self.rng, 100 + self.rank), (self.speech.rng, 200 + self.rank)):
            reseed(rng, seed, stage.step)
        kind = self.kinds.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "clip":
            return self.speech.loss(stage)
        if kind == "ideal":
            return self._ideal(stage)
        if kind in ("typed", "spoken"):
            return self._picture(stage, kind == "spoken")
        set_mode(self.media.model, None)
        packer = self.media.packer
        if kind == "repeat":
            batch = packer.repeats(self.rng, 16, self.rng.randint(2, 14))
        else:
            batch = packer.batch(packer.alike(self.rng, [text_dialogue(self.rng) for _ in range(48)], 16))
        value = loss_of(*answer_logits(self.media.model, packer, batch, None, None))
        stage.note(**{kind: value})
        return value

    def _ideal(self, stage: Stage) -> Tensor:
        """Ideal rows instead of the tower's: three times as many questions in the same time."""
        set_mode(self.media.model, "vision")
        batch = self.media.packer.batch(
            self.media.packer.alike(self.rng, self.sight.dialogues(self.rng, False, 42, self.sight.store), 14)
        )
        tokens = self.media.model.model.embed_tokens.weight.detach()
        images = self.media.ideal.pictures(batch.pictures, tokens, 0.02)
        value = loss_of(*answer_logits(self.media.model, self.media.packer, batch, images, None))
        stage.note(ideal=value)
        return value

    def _picture(self, stage: Stage, spoken: bool) -> Tensor:
        batch, logits, targets, images = self.sight.forward(
            self.rng, spoken, 8 if spoken else 12, self.sight.store, True
        )
        value = loss_of(logits, targets)
        away = self.sight.away(batch, images)
        stage.note(**{"spoken" if spoken else "typed": value, "away_image": away})
        return value + max(0.2, 1 - stage.spent / 500) * away

    def evaluate(self) -> str:
        """Whole answers right, in every mode."""
        rng, packer = Random(9), self.media.packer
        set_mode(self.media.model, None)
        batch = packer.batch([text_dialogue(rng) for _ in range(60)])
        logits, _ = answer_logits(self.media.model, packer, batch, None, None)
        text = scores(exact_answers(batch, logits, self.media.codec.end))
        return "\n    ".join([text, self.sight.evaluate(), self.speech.evaluate()])


def run(folder: Path, minutes: float, rank: int = 0, size: int = 1) -> None:
    """Train everything and write ``joint.pt``."""
    torch.set_num_threads(1)
    torch.manual_seed(7 + rank)
    team = Team().join(folder / "joint.meeting", rank, size)
    media = MediaModel(folder)
    media.load_tower()
    media.load_encoder()
    joint = JointStage(folder, media, rank)
    stage = Stage("joint", folder, minutes, PEAK)
    adam = optimiser(joint.modules.parameters())
    stage.run(joint.modules, adam, lambda: joint.loss(stage), joint.evaluate, 3, 150.0, team)
