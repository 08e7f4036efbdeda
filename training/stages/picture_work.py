"""Batches of pictures in vision mode, with typed or spoken questions."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from training.clips import ClipStore
from training.model import audio_rows, set_mode
from training.packing import Batch, answer_logits, exact_answers
from training.samples import Clip, Dialogue, compare_dialogue, picture_dialogue

from .common import scores
from .media import MediaModel, distance, media_clips

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class PictureWork:
    """Pictures with typed questions, or with recordings of the same questions."""

    def __init__(self, folder: Path, media: MediaModel) -> None:
        self.media = media
        self.store = ClipStore(folder / "clips", "train")
        self.tests = ClipStore(folder / "clips", "held")

    def dialogues(self, rng: Random, spoken: bool, count: int, store: ClipStore, held: bool = False) -> list[Dialogue]:
        """Random dialogues about pictures."""

        def speak(text: str) -> Clip | None:
            found = store.by_text.get(text)
            return Clip(text, rng.choice(found)) if found else None

        speaker = speak if spoken else None
        found: list[Dialogue] = []
        while len(found) < count:
            compare = rng.random() < 0.35 and not held
            made = compare_dialogue(rng, 3, speaker) if compare else picture_dialogue(rng, 6, speaker, held)
            if made:
                found.append(made)
        return found

    def forward(
        self, rng: Random, spoken: bool, count: int, store: ClipStore, train: bool, held: bool = False
    ) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """Batch, logits, targets and image rows."""
        media = self.media
        set_mode(media.model, "vision")
        dialogues = self.dialogues(rng, spoken, count * 3 if train else count, store, held)
        if train:
            dialogues = media.packer.alike(rng, dialogues, count)
        clips, audios = media_clips(dialogues), None
        if clips:
            hidden = media.encode_clips(store, clips, rng if train else None, learn=False)
            audios = audio_rows(media.model, hidden, "vision")
        batch = media.packer.batch(dialogues)
        images = media.picture_rows(batch.pictures, rng, learn=rng.random() < 0.6)
        return batch, *answer_logits(media.model, media.packer, batch, images, audios), images

    def away(self, batch: Batch, images: Tensor) -> Tensor:
        """How far the image rows are from ideal ones."""
        tokens = self.media.model.model.embed_tokens.weight.detach()
        return distance(images.float(), self.media.ideal.pictures(batch.pictures, tokens, 0.0))

    def evaluate(self) -> str:
        """Whole answers right: new pictures, pictures with pairs and fonts never trained on, spoken questions."""
        lines = []
        for name, held, spoken in (("new", False, False), ("held", True, False), ("spoken", False, True)):
            rng, results = Random(5), []
            for _ in range(3 if name != "held" else 2):
                batch, logits, *_ = self.forward(rng, spoken, 30, self.tests, False, held)
                results += exact_answers(batch, logits, self.media.codec.end)
            total = sum(right for _, right in results) / len(results)
            lines.append(f"{name} ALL={total:.3f}({len(results)}) " + scores(results))
        return "\n    ".join(lines)
