"""Stage 1: the language model, on text and on ideal picture and clip rows."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from training.domain.spoken import is_trained, spoken_turn
from training.ideal import IdealRows, clip_rows, ideal_clip
from training.model import build, demo_config
from training.packing import Batch, Packer, answer_logits, exact_answers, loss_of
from training.samples import Clip, Dialogue, clip_dialogue, compare_dialogue, picture_dialogue, text_dialogue
from training.tokenizer import load_codec

from .common import Stage, optimiser, reseed, scores

if TYPE_CHECKING:
    from pathlib import Path

ROW_NOISE = 0.03


class BaseStage:
    """Model, ideal rows and batches of the stage."""

    def __init__(self, folder: Path) -> None:
        self.codec = load_codec(folder / "tokenizer.json")
        self.packer = Packer(self.codec)
        self.model = build(demo_config(self.codec))
        self.ideal = IdealRows(self.model.config.hidden_size, self.codec)
        self.modules = nn.ModuleDict(
            {
                "embed": self.model.model.embed_tokens,
                "layers": self.model.model.layers,
                "norm": self.model.model.norm,
                "ideal": self.ideal,
            }
        )
        self.rng = Random(21)

    def dialogue(self, rng: Random, kind: str) -> Dialogue:
        """A random dialogue of a kind: text, picture, both (picture and clips) or clip."""

        def speak(text: str) -> Clip:
            return ideal_clip(rng, self.codec, text)

        while True:
            if kind == "text":
                return text_dialogue(rng)
            if kind == "clip":
                turn = spoken_turn(rng)
                if is_trained(turn):
                    return clip_dialogue(rng, speak(turn.question), turn.task, turn.answer)
                continue
            speaker = speak if kind == "both" else None
            made = compare_dialogue(rng, 3, speaker) if rng.random() < 0.2 else picture_dialogue(rng, 4, speaker)
            if made:
                return made

    def batch(self, rng: Random, kind: str) -> Batch:
        """As many dialogues as fit."""
        if kind == "repeat":
            return self.packer.repeats(rng, 16, rng.randint(2, 14))
        per_row = {"text": 16, "picture": 8, "both": 5, "clip": 16}[kind]
        candidates = [self.dialogue(rng, kind) for _ in range(per_row * 3)]
        return self.packer.batch(self.packer.alike(rng, candidates, per_row))

    def logits(self, batch: Batch, noise: float) -> tuple[Tensor, Tensor]:
        """Answer logits with ideal media rows."""
        table = self.model.model.embed_tokens.weight
        images = self.ideal.pictures(batch.pictures, table, noise) if batch.pictures else None
        audios = [clip_rows(self.rng, self.codec, table, clip, noise) for clip in batch.clips]
        return answer_logits(self.model, self.packer, batch, images, torch.cat(audios) if audios else None)

    def loss(self, stage: Stage) -> Tensor:
        """One random batch's loss."""
        reseed(self.rng, 21, stage.step)
        kind = self.rng.choices(["text", "picture", "both", "clip", "repeat"], [4, 4, 0.7, 1, 3])[0]
        value = loss_of(*self.logits(self.batch(self.rng, kind), ROW_NOISE))
        stage.note(**{kind: value})
        return value

    def evaluate(self) -> str:
        """Whole answers right, per task."""
        rng, results = Random(99), []
        for kind in ["text"] * 6 + ["picture"] * 10 + ["both"] * 3 + ["clip"] * 3 + ["repeat"] * 2:
            batch = self.batch(rng, kind)
            logits, _ = self.logits(batch, 0.0)
            results += exact_answers(batch, logits, self.codec.end)
        return scores(results)


def run(folder: Path, minutes: float, name: str = "base", start: str | None = None, peak: float = 2e-3) -> None:
    """Train the base and write its checkpoint."""
    torch.set_num_threads(1)
    np.random.seed(1)
    base = BaseStage(folder)
    stage = Stage(name, folder, minutes, peak, start=start)
    stage.run(base.modules, optimiser(base.modules.parameters()), lambda: base.loss(stage), base.evaluate)
