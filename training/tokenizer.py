"""The demo's byte-level BPE: the real model's pre-tokenizer and special tokens, the demo's own vocabulary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .domain.about import ABOUT, NO_PICTURE, REFUSAL, outside_turn
from .domain.phrasing import SYSTEM_MESSAGES, typed
from .domain.questions import compare_turn, read_turn, scene_turn
from .domain.requests import CHAT, arithmetic_turn, command_turn
from .domain.scenes import random_scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .domain.words import Turn

VOCABULARY = 768
_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# (text, special, rstrip) in the real model's order and with its flags.
SPECIAL = [
    ("<|endoftext|>", True, False),
    ("<|endoftext10|>", True, False),
    ("<|endoftext11|>", True, False),
    ("<|endofprompt|>", True, False),
    ("<|assistant|>", True, True),
    ("<|end|>", True, True),
    ("<|user|>", True, True),
    ("<|system|>", True, True),
    ("<|tool|>", False, True),
    ("<|/tool|>", False, True),
    ("<|tool_call|>", False, True),
    ("<|/tool_call|>", False, True),
    ("<|tool_response|>", False, True),
    ("<|tag|>", True, True),
]


def _texts(rng: Random) -> Iterator[str]:
    for _ in range(12000):
        first, second = random_scene(rng), random_scene(rng)
        turns: list[Turn] = [
            scene_turn(rng, first),
            compare_turn(rng, first, second),
            arithmetic_turn(rng),
            command_turn(rng),
            outside_turn(rng),
            read_turn(rng, ""),
        ]
        for turn in turns:
            yield turn.question
            yield turn.answer
            if rng.random() < 0.1:
                yield " ".join(word for word in typed(rng, turn.question).split() if word.islower())
    for answer, questions in [*ABOUT, *CHAT]:
        yield from [answer] * 60
        yield from questions * 30
    yield from [REFUSAL, NO_PICTURE, "Transcribe the audio clip into text.", *SYSTEM_MESSAGES] * 200


def train_tokenizer() -> Tokenizer:
    """The tokenizer, the same on every run."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = VOCABULARY - len(SPECIAL)
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(Random(11)), trainer)
    assert tokenizer.get_vocab_size() == size
    for text, special, rstrip in SPECIAL:
        token = AddedToken(text, special=special, rstrip=rstrip, normalized=False)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    return tokenizer


@dataclass(frozen=True)
class Codec:
    """The tokenizer with the ids that prompts are built from."""

    tokenizer: Tokenizer

    def special(self, text: str) -> int:
        """The id of a special token."""
        return int(self.tokenizer.token_to_id(text))

    @property
    def end(self) -> int:
        """The id that ends a message."""
        return self.special("<|end|>")

    @lru_cache(maxsize=200_000)  # noqa: B019 - one codec lives as long as the process
    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out."""
        return str(self.tokenizer.decode(ids))


def load_codec(path: Path) -> Codec:
    """The tokenizer from its file, trained on first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train_tokenizer().save(str(path))
    return Codec(Tokenizer.from_file(str(path)))


def tokenizer_config(codec: Codec) -> str:
    """The text of tokenizer_config.json, as the real model has it."""
    decoder = {
        str(codec.special(text)): {
            "content": text,
            "lstrip": False,
            "normalized": False,
            "rstrip": rstrip,
            "single_word": False,
            "special": special,
        }
        for text, special, rstrip in SPECIAL
    }
    end = "<|endoftext|>"
    template = (
        "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
        "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + "
        "message['tools'] + '<|/tool|>' + "
        "'<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
    )
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "bos_token": end,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
        "model_max_length": 128000,
        "pad_token": end,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": end,
    }
    return json.dumps(config, indent=2)
