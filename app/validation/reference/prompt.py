"""Messages to token ids with media placeholders (phi4mm 1.4, 1.5, 5)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from app.common.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.validation.reference.checkpoint import Checkpoint
    from app.validation.suite import Case, CaseMessage, CasePart

# What the tokenizer's rstrip swallows: Unicode White_Space; Python's str.isspace has U+001C to U+001F too.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True, slots=True)
class Media:
    """A placeholder: ``kind`` is ``image`` or ``audio``, ``path`` the file."""

    kind: str
    path: str


class PromptReference:
    """Tokenizer and special ids of a checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read tokenizer.json; special strings in text stay text because the added tokens are taken out."""
        description = checkpoint.json("tokenizer.json")
        added = {token["content"]: token["id"] for token in description.get("added_tokens", [])}
        self._tokenizer = Tokenizer.from_str(json.dumps({**description, "added_tokens": [], "post_processor": None}))
        self._special = {**description["model"]["vocab"], **added}
        self.placeholders = {
            "image": self._placeholder(checkpoint, "vision_config", "image_token_id", ("<|endoftext10|>", "<|image|>")),
            "audio": self._placeholder(checkpoint, "audio_config", "audio_token_id", ("<|endoftext11|>", "<|audio|>")),
        }

    def _placeholder(self, checkpoint: Checkpoint, section: str, key: str, names: tuple[str, str]) -> int:
        configured = (checkpoint.config.get(section) or {}).get(key)
        found = [self._special[name] for name in names if name in self._special]
        if configured is None and not found:
            raise ValidationError(
                f"{checkpoint.directory}: its tokenizer has no {names[0]}; give a complete checkpoint"
            )
        return int(found[0] if configured is None else configured)

    def tag(self, name: str) -> int:
        """Id of ``<|name|>``."""
        return int(self._special[f"<|{name}|>"])

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def pieces(self, case: Case) -> Iterator[list[int] | Media]:
        """The prompt up to and including the assistant's tag, as runs of ids and media."""
        for message in case.messages:
            yield [self.tag(message.role)]
            yield from self._content(message)
            yield [self.tag("end")]
        yield [self.tag("assistant")]

    def _content(self, message: CaseMessage) -> Iterator[list[int] | Media]:
        for index, part in enumerate(joined(message.parts)):
            if part.kind == "text":
                yield self.encode(part.value.lstrip(WHITE_SPACE) if index == 0 else part.value)
            else:
                yield Media(part.kind, part.value)


def joined(parts: tuple[CasePart, ...]) -> list[CasePart]:
    """Parts with neighbouring texts made one."""
    result: list[CasePart] = []
    for part in parts:
        if part.kind == "text" and result and result[-1].kind == "text":
            result[-1] = type(part)("text", result[-1].value + part.value)
        else:
            result.append(part)
    return result
