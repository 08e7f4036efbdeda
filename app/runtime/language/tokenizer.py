"""Text to token ids and back, by the tokenizers library.

The whole tokenizer.json lies in the GGUF metadata. Its added tokens are taken out before use, so
that no user text can become a special token; the prompt puts special tokens in by id.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

import tokenizers

from app.common.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Iterable

METADATA_KEY = "tokenizer.huggingface.json"


class Tokenizer:
    """Encodes plain text; decodes ids, special tokens left out.

    Calls are thread-safe; encoding a megabyte takes about a second.
    """

    def __init__(self, tokenizer_json: str, source: str = "tokenizer.json") -> None:
        """Read a tokenizer.json.

        Args:
            tokenizer_json: the file's text.
            source: file name for messages.

        Raises:
            ModelFormatError: it is not a byte-level tokenizer this library can read.
        """
        parsed = _parse(tokenizer_json, source)
        added = _added_tokens(parsed, source)
        self._visible = {token: text for token, (text, special) in added.items() if not special}
        self._special = frozenset(token for token, (_, special) in added.items() if special)
        self._pieces: dict[int, bytes] = {}
        self._plain = _without_added(parsed, {text for text, _ in added.values()}, source)

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` as plain text; lone surrogates become U+FFFD."""
        ids: list[int] = self._plain.encode(_valid_unicode(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; special and unknown ids give nothing, broken UTF-8 gives U+FFFD."""
        return b"".join(map(self.piece, ids)).decode("utf-8", errors="replace")

    def piece(self, token: int) -> bytes:
        """Bytes one id stands for, perhaps part of a character; empty for special and unknown ids."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._make_piece(token)
        return piece

    def _make_piece(self, token: int) -> bytes:
        if token in self._special or token < 0:
            return b""
        text = self._visible.get(token)
        return _bytes_of(self._plain.id_to_token(token) or "") if text is None else text.encode()

    def stream(self) -> TextStream:
        """A decoder for one answer."""
        return TextStream(self)


class TextStream:
    """Turns ids into text as they come, never giving out half a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Text that ``token`` completes; may be empty."""
        return self._decoder.decode(self._tokenizer.piece(token))

    def finish(self) -> str:
        """What is left; a character cut in the middle shows as U+FFFD, as in Tokenizer.decode."""
        return self._decoder.decode(b"", final=True)


def _parse(tokenizer_json: str, source: str) -> dict[str, Any]:
    try:
        parsed = json.loads(tokenizer_json)
    except ValueError as error:
        raise ModelFormatError(f"{source}: the tokenizer is not JSON ({error}); convert the model again") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise ModelFormatError(f"{source}: the tokenizer has no model part; convert the model again")
    kinds = _kinds(parsed.get("pre_tokenizer")) & _kinds(parsed.get("decoder"))
    if "ByteLevel" not in kinds:
        raise ModelFormatError(f"{source}: the tokenizer is not byte-level; only such tokenizers are supported")
    return parsed


def _kinds(component: object) -> set[str]:
    """Type names inside a tokenizer.json component, which may be a sequence."""
    if not isinstance(component, dict):
        return set()
    parts = component.get("pretokenizers") or component.get("decoders") or []
    return {str(component.get("type"))}.union(*map(_kinds, parts))


def _added_tokens(parsed: dict[str, Any], source: str) -> dict[int, tuple[str, bool]]:
    """Id to (text, whether it is hidden from the user)."""
    try:
        return {int(t["id"]): (str(t["content"]), bool(t.get("special"))) for t in parsed.get("added_tokens") or []}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(
            f"{source}: the tokenizer's added tokens are malformed; convert the model again"
        ) from error


def _without_added(parsed: dict[str, Any], texts: set[str], source: str) -> tokenizers.Tokenizer:
    """The tokenizer with no added tokens, no template and no truncation."""
    plain = {**parsed, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    vocabulary = parsed["model"].get("vocab")
    if isinstance(vocabulary, dict) and not texts.isdisjoint(vocabulary):
        # with ignore_merges a whole word that is in the vocabulary becomes its id
        plain["model"] = {**parsed["model"], "vocab": {k: v for k, v in vocabulary.items() if k not in texts}}
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises bare Exception
        raise ModelFormatError(f"{source}: the tokenizer cannot be read ({error}); convert the model again") from error


def _valid_unicode(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates."""
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def _byte_alphabet() -> dict[str, int]:
    """Character to byte of the byte-level alphabet: printable Latin-1 is itself, the rest is moved to U+0100 and up."""
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + i): byte for i, byte in enumerate(moved)}


_ALPHABET = _byte_alphabet()


def _bytes_of(token: str) -> bytes:
    return bytes(_ALPHABET[character] for character in token if character in _ALPHABET)
