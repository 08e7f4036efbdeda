"""The tokenizer files of a checkpoint: vocabulary, merges and the ids of special tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.common.errors import ConversionError
from app.convert.settings import read_settings
from app.runtime.formats.params import TokenIds

if TYPE_CHECKING:
    from pathlib import Path

    from app.convert.config import CheckpointConfig
    from app.convert.settings import Settings

# token types of GGUF
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_SPELLINGS = {
    "endoftext": ("<|endoftext|>",),
    "image": ("<|image|>", "<|endoftext10|>"),
    "audio": ("<|audio|>", "<|endoftext11|>"),
    "assistant": ("<|assistant|>",),
    "end": ("<|end|>",),
    "user": ("<|user|>",),
    "system": ("<|system|>",),
    "tool": ("<|tool|>",),
    "tool_end": ("<|/tool|>",),
}


_NO_MERGE = "Ā Ā"  # two zero bytes: llama.cpp wants at least one merge
_OPTIONAL = ("system", "tool", "tool_end")


@dataclass(frozen=True, slots=True)
class TokenizerData:
    """What the language model file stores about its tokenizer.

    Attributes:
        json_text: the whole ``tokenizer.json``.
        tokens: one string per embedding row; rows without a token are ``[PADi]``.
        types: GGUF token type of each.
        merges: BPE merges, ``left right`` each.
        ids: the special tokens.
        stop_ids: every id that ends an answer.
    """

    json_text: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    ids: TokenIds
    stop_ids: tuple[int, ...]


def read_tokenizer(folder: Path, config: CheckpointConfig) -> TokenizerData:
    """Read ``tokenizer.json`` and ``tokenizer_config.json``.

    Raises:
        ConversionError: a file is missing or malformed, special tokens are missing, or ids lie
            outside the vocabulary.
    """
    path = folder / "tokenizer.json"
    settings = read_settings(path)
    added = _added_tokens(settings)
    vocab = _vocab(settings) | {text: token for token, (text, _) in added.items()}
    n_rows = config.language.vocab_size
    if not all(type(token) is int and 0 <= token < n_rows for token in vocab.values()):
        raise ConversionError(f"{path}: token ids lie outside the {n_rows} rows of the embedding")
    tokens, types = _rows(vocab, added, n_rows)
    ids = _special_ids(vocab, config, read_settings(folder / "tokenizer_config.json", optional=True), path)
    return TokenizerData(
        json_text=path.read_text(encoding="utf-8"),
        tokens=tokens,
        types=types,
        merges=_merges(settings),
        ids=ids,
        stop_ids=_stop_ids(ids, config, path),
    )


def _vocab(settings: Settings) -> dict[str, int]:
    model = settings.section("model")
    model.only("type", ("BPE",))
    vocab = model.section("vocab").values
    if not vocab:
        raise model.error("vocab", "is empty")
    return vocab


def _added_tokens(settings: Settings) -> dict[int, tuple[str, bool]]:
    """Id to (text, special) of the tokens that stand beside the BPE vocabulary."""
    try:
        return {
            int(t["id"]): (str(t["content"]), bool(t["special"])) for t in settings.values.get("added_tokens") or ()
        }
    except (TypeError, KeyError, ValueError) as error:
        raise settings.error("added_tokens", "is malformed") from error


def _merges(settings: Settings) -> list[str]:
    """Merges as ``left right``; newer files have pairs, older ones such strings."""
    merges: Any = settings.section("model").values.get("merges") or [_NO_MERGE]
    try:
        return [merge if isinstance(merge, str) else f"{merge[0]} {merge[1]}" for merge in merges]
    except (TypeError, IndexError) as error:
        raise settings.error("model: merges", "is malformed") from error


def _rows(vocab: dict[str, int], added: dict[int, tuple[str, bool]], n_rows: int) -> tuple[list[str], list[int]]:
    tokens, types = [f"[PAD{row}]" for row in range(n_rows)], [UNUSED] * n_rows
    for text, token in vocab.items():
        tokens[token], types[token] = text, NORMAL
    for token, (text, special) in added.items():
        tokens[token], types[token] = text, CONTROL if special else USER_DEFINED
    taken = set(vocab)
    for row in (row for row, kind in enumerate(types) if kind == UNUSED):
        while tokens[row] in taken:  # libllama wants every token once
            tokens[row] += "]"
    return tokens, types


def _special_ids(vocab: dict[str, int], config: CheckpointConfig, tokenizer_config: Settings, path: Path) -> TokenIds:
    found = {name: _find(vocab, name, tokenizer_config) for name in _SPELLINGS}
    if config.image_token_id is not None:
        found["image"] = config.image_token_id
    if config.audio_token_id is not None:
        found["audio"] = config.audio_token_id
    missing = [
        " or ".join(_SPELLINGS[name]) for name, token in found.items() if token is None and name not in _OPTIONAL
    ]
    if missing:
        raise ConversionError(f"{path} does not have the special tokens {', '.join(missing)}")
    ids = {name: token for name, token in found.items() if token is not None}
    if len(set(ids.values())) != len(ids) or max(ids.values()) >= config.language.vocab_size:
        raise ConversionError(f"{path}: the special tokens {ids} share ids or lie outside the vocabulary")
    return TokenIds(**ids)


def _find(vocab: dict[str, int], name: str, tokenizer_config: Settings) -> int | None:
    stated = tokenizer_config.values.get(f"{name}_token")
    spellings = ((stated,) if isinstance(stated, str) and name in ("image", "audio") else ()) + _SPELLINGS[name]
    return next((vocab[spelling] for spelling in spellings if spelling in vocab), None)


def _stop_ids(ids: TokenIds, config: CheckpointConfig, path: Path) -> tuple[int, ...]:
    """The model's own end tokens and whatever else the generation settings list."""
    stops = tuple(dict.fromkeys((ids.end, ids.endoftext, *config.eos_token_ids)))
    if not all(0 <= token < config.language.vocab_size for token in stops):
        raise ConversionError(f"{path.parent}: eos_token_id lists ids outside the vocabulary")
    return stops
