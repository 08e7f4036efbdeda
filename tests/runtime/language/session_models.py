"""Stand-ins for a model directory: a tiny language model and media whose rows are random but fixed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tiny_language import CONTEXT_TOKENS, N_EMBD, TOKEN_IDS

from app.runtime.language.context import ContextOptions
from app.runtime.messages import Audio, Image, Message, Text

PIXELS_PER_ROW = 10


class FixedRows:
    """Rows of media by content; a sound has other rows for each projector."""

    def __init__(self):
        self.encoded = []

    def count(self, medium):
        return len(medium.samples) if isinstance(medium, Audio) else medium.pixels.shape[0]

    def has(self, medium, projector):
        return False

    def rows(self, medium, projector, cancel=None):
        self.encoded.append((medium.content_hash, projector))
        salt = (projector == "vision") if isinstance(medium, Audio) else 0
        generator = np.random.default_rng([int(medium.content_hash[:12], 16), salt])
        return (3 * generator.standard_normal((self.count(medium), N_EMBD))).astype(np.float32)


@dataclass
class TinyModel:
    language: object
    tokenizer: object
    context_options: ContextOptions = field(default_factory=lambda: ContextOptions(exact=True, n_threads=1))
    media: FixedRows = field(default_factory=FixedRows)
    token_ids = TOKEN_IDS
    stop_tokens = frozenset((TOKEN_IDS.end, TOKEN_IDS.endoftext))
    context_tokens = CONTEXT_TOKENS
    device_name = "CPU"


def image(n_rows, seed=0):
    return Image.from_pixels(np.full((n_rows, 2, 3), seed, np.uint8))


def audio(n_rows, seed=0):
    return Audio.from_samples(np.full(n_rows, seed / 100, np.float32), 16000)


def message(role, *parts):
    return Message(role, tuple(Text(part) if isinstance(part, str) else part for part in parts))
