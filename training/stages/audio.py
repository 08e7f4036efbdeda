"""Stage 2b: the audio encoder, by flat frame targets first, then by CTC; its head is thrown away."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.clips import ClipStore
from training.fast import speed_up
from training.hearing import clip_batch, trained_order, window
from training.model import build, demo_config, hear
from training.tokenizer import VOCABULARY, Codec, load_codec

from .common import Stage, optimiser, reseed, scores

if TYPE_CHECKING:
    from pathlib import Path

CLIPS = 24
_LEAD, _TAIL = 12, 10


def flat_alignment(codec: Codec, text: str, start: int, frames: int, steps: int, blank: int) -> list[int]:
    """Tokens spread over the speech in proportion to their letters: enough to leave the blank plateau."""
    tokens = codec.encode(text)
    weights = [
        max(1.5, len(codec.tokenizer.id_to_token(t))) if codec.decode([t]).strip(" .?,!") else 0.3 for t in tokens
    ]
    edges = np.cumsum([0.0, *weights]) / sum(weights)
    position = ((np.arange(steps) + 0.5) * 8 - start - _LEAD) / max(8, frames - _LEAD - _TAIL)
    found = np.searchsorted(edges, position, side="right") - 1
    return [tokens[k] if 0 <= k < len(tokens) else blank for k in found]


def ctc_loss(logits: Tensor, texts: list[tuple[int, ...]], blank: int) -> Tensor:
    """Mean CTC loss of token sequences."""
    logs = logits.float().log_softmax(-1).transpose(0, 1)
    steps = torch.full((len(texts),), logits.shape[1])
    sizes = torch.tensor([len(text) for text in texts])
    flat = torch.tensor([token for text in texts for token in text])
    return F.ctc_loss(logs, flat, steps, sizes, blank=blank, zero_infinity=True)


def ctc_decode(logits: Tensor, blank: int) -> list[list[int]]:
    """Best path, repeats and blanks removed."""
    best = logits.argmax(-1).tolist()
    return [[t for k, t in enumerate(row) if t != blank and (k == 0 or t != row[k - 1])] for row in best]


class AudioStage:
    """The encoder with its CTC head."""

    def __init__(self, folder: Path) -> None:
        self.codec = load_codec(folder / "tokenizer.json")
        self.model = build(demo_config(self.codec))
        self.encoder = self.model.model.embed_tokens_extend.audio_embed.encoder
        speed_up(self.encoder)
        self.head = nn.Linear(self.model.config.audio_config.hidden_size, VOCABULARY)
        self.modules = nn.ModuleDict({"encoder": self.encoder, "head": self.head})
        self.blank = self.codec.special("<|endoftext|>")
        self.store = ClipStore(folder / "clips", "train")
        self.order = trained_order(self.store)
        self.tests = {name: ClipStore(folder / "clips", name) for name in ("held", "other")}
        self.rng = Random(41)
        self._normalise()

    def _normalise(self) -> None:
        features, _ = clip_batch(self.store, self.rng.sample(self.order, 200), self.rng)
        layer = self.encoder.encoder_embedding
        layer.global_mean.copy_(features.mean((0, 1)))
        layer.global_invstd.copy_(1 / features.std((0, 1)))

    def loss(self, stage: Stage) -> Tensor:
        """Flat frame targets for the first part of the time, then CTC."""
        progress = 1.0 if stage.start else stage.progress
        if stage.step % 500 == 499:
            self.store.refresh()
            self.order = trained_order(self.store)
        reseed(self.rng, 41, stage.step)
        chosen = window(self.rng, self.order, CLIPS, min(1.0, 0.35 + 3 * progress))
        features, starts = clip_batch(self.store, chosen, self.rng)
        logits = self.head(hear(self.model, features)).float()
        entries = [self.store.entries[index] for index in chosen]
        texts = [self.codec.encode(entry["text"]) for entry in entries]
        share = 1.0 if progress < 0.2 else max(0.0, 1 - (progress - 0.2) * 6)
        value = torch.zeros(())
        if share > 0:
            flat = torch.tensor(
                [
                    flat_alignment(self.codec, entry["text"], start, entry["frames"], logits.shape[1], self.blank)
                    for entry, start in zip(entries, starts, strict=True)
                ]
            )
            value = value + share * F.cross_entropy(logits.flatten(0, 1), flat.flatten(), label_smoothing=0.05)
        if share < 1:
            loss = ctc_loss(logits, texts, self.blank)
            stage.note(ctc=loss)
            value = value + (1 - share) * loss
        stage.note(total=value)
        return value

    def evaluate(self) -> str:
        """Whole sentences right, on voices never trained on and on the engine left out."""
        results = []
        for name, store in self.tests.items():
            order = sorted(range(0, len(store.entries), 2), key=lambda index: store.entries[index]["frames"])
            for start in range(0, len(order), 40):
                chosen = order[start : start + 40]
                logits = self.head(hear(self.model, clip_batch(store, chosen, None)[0]))
                for index, ids in zip(chosen, ctc_decode(logits, self.blank), strict=True):
                    entry = store.entries[index]
                    right = ids == list(self.codec.encode(entry["text"]))
                    results += [
                        (f"{name}-{entry['voice'].split()[0]}", right),
                        (f"{name}_{entry['task'].split('_')[0]}", right),
                    ]
        return scores(results)


def run(folder: Path, minutes: float, name: str = "audio", start: str | None = None, peak: float = 1.6e-3) -> None:
    """Train the encoder and write its checkpoint."""
    torch.set_num_threads(1)
    audio = AudioStage(folder)
    stage = Stage(name, folder, minutes, peak, start=start)
    stage.log(f"{len(audio.order)} clips")
    stage.run(audio.modules, optimiser(audio.modules.parameters()), lambda: audio.loss(stage), audio.evaluate, 6)
