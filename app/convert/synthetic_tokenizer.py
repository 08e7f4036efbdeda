"""A byte-level BPE tokenizer with the model's special tokens at odd ids, for random checkpoints.

It splits text by the published pre-tokenizer's pattern and knows every byte, so any text has ids.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.convert.config import Layout

SPLIT_PATTERN = "|".join(
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""The published pre-tokenizer (o200k)."""

_PLACEHOLDERS = {"original": ("<|endoftext10|>", "<|endoftext11|>"), "native": ("<|image|>", "<|audio|>")}
# (token, attribute of SpecialIds or "", special, rstrip), in the published order (phi4mm 1.4)
_SPECIALS = (
    ("<|endofprompt|>", "", True, False),
    ("<|assistant|>", "assistant", True, True),
    ("<|end|>", "end", True, True),
    ("<|user|>", "user", True, True),
    ("<|system|>", "system", True, True),
    ("<|tool|>", "tool", False, True),
    ("<|/tool|>", "tool_end", False, True),
    ("<|tool_call|>", "", False, True),
    ("<|/tool_call|>", "", False, True),
    ("<|tool_response|>", "", False, True),
    ("<|tag|>", "", True, True),
)
_BPE_FLAGS = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
_ID_ORDER = (7, 2, 11, 0, 5, 9, 3, 13, 1, 8, 12, 4, 10, 6)  # ids are not in the published order
_ID_STRIDE = 3  # ids between two special tokens stay without a token


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids the random tokenizer gave to the tokens a prompt needs."""

    endoftext: int
    image: int
    audio: int
    assistant: int
    end: int
    user: int
    system: int
    tool: int
    tool_end: int

    @property
    def eos(self) -> tuple[int, int]:
        """The two end tokens, in the published order."""
        return self.end, self.endoftext


def write_tokenizer(folder: Path, vocab_size: int, layout: Layout) -> SpecialIds:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for ``vocab_size`` embedding rows.

    Raises:
        ValueError: fewer than 256 bytes and the special tokens fit.
    """
    image, audio = _PLACEHOLDERS[layout]
    specials = (
        ("<|endoftext|>", "endoftext", True, False),
        (image, "image", True, False),
        (audio, "audio", True, False),
        *_SPECIALS,
    )
    first = vocab_size - _ID_STRIDE * len(specials) - 2
    if first < 256:
        raise ValueError(f"a vocabulary of {vocab_size} is too small")
    ids = {token: first + _ID_STRIDE * place for (token, *_), place in zip(specials, _ID_ORDER, strict=True)}
    _write_json(folder / "tokenizer.json", _tokenizer(first, specials, ids))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(specials, ids))
    return SpecialIds(**{name: ids[token] for token, name, *_ in specials if name})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _byte_characters() -> list[str]:
    """The printable stand-ins of the 256 bytes in byte-level BPE, in byte order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def _merges(count: int) -> Iterator[tuple[str, str]]:
    """``count`` merges that make new tokens: letters first, then words of growing length."""
    letters = [*"etaoinshrdlucmfwygpbvkxqjzTAIS0123456789", "Ġ"]
    stems = letters
    while True:
        grown = []
        for stem, letter in product(stems, letters):
            if count == 0:
                return
            if letter != "Ġ":
                yield stem, letter
                grown.append(stem + letter)
                count -= 1
        stems = grown


def _tokenizer(first_special: int, specials: tuple[Any, ...], ids: dict[str, int]) -> dict[str, Any]:
    vocab = {character: byte for byte, character in enumerate(_byte_characters())}
    merges = []
    for left, right in _merges(first_special - len(vocab) - 1):  # one id stays without a token
        vocab[left + right] = len(vocab)
        merges.append([left, right])
    split = {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Removed", "invert": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    by_id = sorted(specials, key=lambda special: ids[special[0]])
    level_flags = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token, ids[token], special, rstrip) for token, _, special, rstrip in by_id],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level_flags | {"trim_offsets": False},
        "decoder": level_flags,
        "model": _BPE_FLAGS | {"vocab": vocab | ids, "merges": merges},
    }


def _added(token: str, token_id: int, special: bool, rstrip: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}
    return {"id": token_id, "content": token, **flags}


def _tokenizer_config(specials: tuple[Any, ...], ids: dict[str, int]) -> dict[str, Any]:
    decoder = {str(ids[token]): _added(token, ids[token], special, rstrip) for token, _, special, rstrip in specials}
    for entry in decoder.values():
        del entry["id"]
    names = {f"{role}_token": "<|endoftext|>" for role in ("bos", "eos", "pad", "unk")}
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "tokenizer_class": "GPT2Tokenizer",
        **names,
        "image_token": specials[1][0],
        "audio_token": specials[2][0],
    }
