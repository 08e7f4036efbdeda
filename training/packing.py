"""Dialogues to batches: one row per dialogue, its shared beginning attended to by independent continuations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from .domain.requests import ECHO_WORDS
from .samples import Clip, Dialogue, Exchange, Part, Picture

if TYPE_CHECKING:
    from random import Random

    from transformers import Phi4MultimodalForCausalLM

    from .tokenizer import Codec

IGNORE = -100


@dataclass
class Row:
    """Token ids with positions, segment numbers (0 = shared) and targets (the next token, where it is an answer)."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


@dataclass
class Batch:
    """Padded tensors, and the media in the order in which their rows are filled in."""

    ids: Tensor
    positions: Tensor
    bias: Tensor
    targets: Tensor
    pictures: list[Picture]
    clips: list[Clip]
    tasks: list[list[str]]


class Packer:
    """Builds batches with the prompt format of the model."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.user, self.assistant = codec.special("<|user|>"), codec.special("<|assistant|>")
        self.system, self.end = codec.special("<|system|>"), codec.end
        self.image, self.audio = codec.special("<|endoftext10|>"), codec.special("<|endoftext11|>")

    def part(self, part: Part) -> list[int]:
        """The ids of a text, or the placeholders of a picture or clip."""
        if isinstance(part, Picture):
            return [self.image] * part.tokens
        if isinstance(part, Clip):
            return [self.audio] * part.tokens
        return list(self.codec.encode(part))

    def opening(self, dialogue: Dialogue) -> list[int]:
        """System message and the shared beginning of the first user message."""
        ids = [self.system, *self.codec.encode(dialogue.system), self.end] if dialogue.system else []
        return ids + [self.user] + [i for part in dialogue.shared for i in self.part(part)]

    def question(self, exchange: Exchange, first: bool) -> list[int]:
        """The rest of a user message and the generation prompt."""
        ids = [] if first else [self.user]
        return ids + [i for part in exchange.parts for i in self.part(part)] + [self.end, self.assistant]

    def row(self, dialogue: Dialogue) -> Row:
        """One dialogue as a packed row."""
        row = Row()
        shared = self.opening(dialogue)
        self._extend(row, shared, 0, 0, [IGNORE] * len(shared))
        for number, tail in enumerate(dialogue.tails, 1):
            place = len(shared)
            for index, exchange in enumerate(tail):
                asked = self.question(exchange, index == 0)
                answer = [*self.codec.encode(exchange.answer), self.end]
                targets = [IGNORE] * (len(asked) - 1) + answer + [IGNORE]
                self._extend(row, asked + answer, place, number, targets)
                place += len(asked) + len(answer)
                row.tasks.append(exchange.task)
        return row

    @staticmethod
    def _extend(row: Row, ids: list[int], place: int, segment: int, targets: list[int]) -> None:
        row.ids += ids
        row.positions += range(place, place + len(ids))
        row.segments += [segment] * len(ids)
        row.targets += targets

    def alike(self, rng: Random, candidates: list[Dialogue], count: int) -> list[Dialogue]:
        """``count`` of the candidates, of similar length: padding costs as much as learning."""
        ordered = sorted(candidates, key=lambda dialogue: len(self.row(dialogue).ids))
        start = rng.randint(0, max(0, len(ordered) - count))
        return ordered[start : start + count]

    def repeats(self, rng: Random, count: int, length: int) -> Batch:
        """Random words to be said again, twice: nothing teaches copying faster."""
        rows = []
        for _ in range(count):
            text = "".join(" " + rng.choice(ECHO_WORDS) for _ in range(length))
            words = list(self.codec.encode(text))
            ids = [self.user, *words, self.end, self.assistant, *words, self.end, self.assistant, *words, self.end]
            silent = [IGNORE] * (len(words) + 2)
            targets = [*silent, *words, self.end, IGNORE, *words, self.end, IGNORE]
            rows.append(Row(ids, list(range(len(ids))), [0] * len(ids), targets, ["repeat", "repeat"]))
        return self.tensors(rows, [])

    def batch(self, dialogues: list[Dialogue]) -> Batch:
        """Dialogues as one batch."""
        return self.tensors([self.row(dialogue) for dialogue in dialogues], dialogues)

    @staticmethod
    def tensors(rows: list[Row], dialogues: list[Dialogue]) -> Batch:
        """Padded tensors of rows, and the media of their dialogues."""
        length = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        positions = torch.zeros_like(ids)
        segments = torch.full_like(ids, -1)
        targets = torch.full_like(ids, IGNORE)
        for index, row in enumerate(rows):
            size = len(row.ids)
            ids[index, :size] = torch.tensor(row.ids)
            positions[index, :size] = torch.tensor(row.positions)
            segments[index, :size] = torch.tensor(row.segments)
            targets[index, :size] = torch.tensor(row.targets)
        visible = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
        visible &= torch.ones(length, length, dtype=torch.bool).tril()
        visible |= torch.eye(length, dtype=torch.bool)
        bias = torch.zeros(len(rows), 1, length, length).masked_fill_(~visible[:, None], -1e9)
        media = [part for dialogue in dialogues for part in _media(dialogue)]
        pictures = [part for part in media if isinstance(part, Picture)]
        clips = [part for part in media if isinstance(part, Clip)]
        return Batch(ids, positions, bias, targets, pictures, clips, [row.tasks for row in rows])


def _media(dialogue: Dialogue) -> list[Part]:
    parts = [*dialogue.shared, *(part for tail in dialogue.tails for turn in tail for part in turn.parts)]
    return [part for part in parts if not isinstance(part, str)]


def answer_logits(
    model: Phi4MultimodalForCausalLM, packer: Packer, batch: Batch, images: Tensor | None, audios: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Logits and targets of all answer tokens; media rows replace the placeholders."""
    hidden = model.model.embed_tokens(batch.ids)
    for rows, token in ((images, packer.image), (audios, packer.audio)):
        if rows is not None:
            where = torch.nonzero(batch.ids == token, as_tuple=True)
            hidden = hidden.index_put(where, rows.reshape(-1, hidden.shape[-1]).to(hidden.dtype))
    out = model.model(
        inputs_embeds=hidden, attention_mask=batch.bias, position_ids=batch.positions, use_cache=False
    ).last_hidden_state
    chosen = batch.targets != IGNORE
    return model.lm_head(out[chosen]).float(), batch.targets[chosen]


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the answers."""
    return F.cross_entropy(logits, targets)


def exact_answers(batch: Batch, logits: Tensor, end: int) -> list[tuple[str, bool]]:
    """(task, whole answer right) of every answer: teacher forced, which equals greedy decoding when all are right."""
    right = (logits.argmax(-1) == batch.targets[batch.targets != IGNORE]).tolist()
    rows = torch.nonzero(batch.targets != IGNORE)[:, 0].tolist()
    goals = batch.targets[batch.targets != IGNORE].tolist()
    results: list[tuple[str, bool]] = []
    upcoming = [iter(tasks) for tasks in batch.tasks]
    good = True
    for row, goal, ok in zip(rows, goals, right, strict=True):
        good &= ok
        if goal == end:
            results.append((next(upcoming[row]), good))
            good = True
    return results
