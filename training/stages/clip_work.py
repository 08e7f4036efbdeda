"""Batches of clips in speech mode: transcribe them, answer them."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from training.clips import ClipStore
from training.hearing import trained_order, window
from training.model import audio_rows, set_mode
from training.packing import Batch, answer_logits, exact_answers, loss_of
from training.samples import Clip, clip_dialogue

from .audio import ctc_loss
from .common import Stage, scores
from .media import MediaModel, distance

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class ClipWork:
    """Clips in speech mode."""

    def __init__(self, folder: Path, media: MediaModel) -> None:
        self.media = media
        self.store = ClipStore(folder / "clips", "train")
        self.order = trained_order(self.store)
        self.tests = {name: ClipStore(folder / "clips", name) for name in ("held", "other")}
        self.rng = Random(51)
        self.blank = media.codec.special("<|endoftext|>")

    def forward(
        self, store: ClipStore, chosen: list[int], rng: Random | None
    ) -> tuple[Batch, Tensor, Tensor, Tensor, Tensor]:
        """Batch, logits, targets, encoder output and projected rows of some recordings."""
        set_mode(self.media.model, "speech")
        entries = [store.entries[index] for index in chosen]
        clips = [Clip(entry["text"], index) for index, entry in zip(chosen, entries, strict=True)]
        hidden = self.media.encode_clips(store, clips, rng, learn=True)
        rows = audio_rows(self.media.model, hidden, "speech")
        draw = rng or Random(1)
        dialogues = [clip_dialogue(draw, c, e["task"], e["answer"]) for c, e in zip(clips, entries, strict=True)]
        batch = self.media.packer.batch(dialogues)
        return batch, *answer_logits(self.media.model, self.media.packer, batch, None, rows), hidden, rows

    def loss(self, stage: Stage) -> Tensor:
        """Answers, plus CTC on the encoder, plus (at first) a pull of the rows towards expected token embeddings."""
        chosen = window(self.rng, self.order, 24)
        _, logits, targets, hidden, rows = self.forward(self.store, chosen, self.rng)
        value = answers = loss_of(logits, targets)
        heard = self.media.ctc(hidden).float()
        texts = [self.media.codec.encode(self.store.entries[index]["text"]) for index in chosen]
        ctc = ctc_loss(heard, texts, self.blank)
        pull = max(0.0, 1 - stage.spent / 420)
        if pull > 0:
            goal = heard.detach().softmax(-1) @ self.media.model.model.embed_tokens.weight.detach()
            away = distance(rows.float(), goal)
            stage.note(away=away)
            value = value + pull * away
        stage.note(answers=answers, ctc=ctc)
        return value + 0.3 * ctc

    def evaluate(self) -> str:
        """Whole answers right: voices never trained on, and the engine left out."""
        results = []
        for name, store in self.tests.items():
            order = sorted(range(0, len(store.entries), 3), key=lambda index: store.entries[index]["frames"])
            for start in range(0, len(order), 30):
                batch, logits, *_ = self.forward(store, order[start : start + 30], None)
                results += [
                    (f"{name}_{task}", right) for task, right in exact_answers(batch, logits, self.media.codec.end)
                ]
        totals = [("ALL_" + "_".join(task.split("_")[:2]), right) for task, right in results]
        return scores(totals) + "\n    " + scores(results)
