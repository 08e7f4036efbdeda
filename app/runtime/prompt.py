"""Messages to prompt segments, exactly as the model was trained to see them (phi4mm 1.5 and 5).

Special tokens are put in by id and text is tokenised apart from them, so what a user types can
never act as one. There are no line breaks between turns and no beginning-of-text token.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.common.errors import ConfigError
from app.runtime.formats.params import NO_TOKEN
from app.runtime.messages import Audio, Image, Message, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.runtime.formats.params import TokenIds
    from app.runtime.language.tokenizer import Tokenizer
    from app.runtime.messages import Part

Segment = list[int] | Image | Audio
"""Token ids, or a medium whose rows come from an encoder."""

# Unicode White_Space, which the tokenizer's rstrip means; Python's str.strip() takes four more.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Mode(enum.Enum):
    """What a conversation holds; decides adapter and audio projector for all of it (phi4mm 2)."""

    TEXT = "text"
    SPEECH = "speech"
    VISION = "vision"
    VISION_SPEECH = "vision_speech"

    @property
    def adapter(self) -> str | None:
        """The one adapter this mode runs with: "speech", "vision" or none."""
        return {Mode.TEXT: None, Mode.SPEECH: "speech"}.get(self, "vision")

    def with_media(self, *, images: bool, audios: bool) -> Mode:
        """This mode once such media are added to the conversation."""
        has_images, has_audios = self.adapter == "vision", self in (Mode.SPEECH, Mode.VISION_SPEECH)
        return Mode.of(images=images or has_images, audios=audios or has_audios)

    @classmethod
    def of(cls, *, images: bool, audios: bool) -> Mode:
        """Mode of a conversation with these media."""
        if images:
            return cls.VISION_SPEECH if audios else cls.VISION
        return cls.SPEECH if audios else cls.TEXT


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation as the model sees it.

    Attributes:
        segments: in order; no two neighbours are both token ids.
        mode: of the media in it.
    """

    segments: list[Segment]
    mode: Mode


class PromptBuilder:
    """Builds prompts for one model."""

    def __init__(self, tokenizer: Tokenizer, ids: TokenIds) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        roles = {"system": ids.system, "user": ids.user, "assistant": ids.assistant, "tool": ids.tool}
        self._roles = {role: token for role, token in roles.items() if token != NO_TOKEN}

    def build(self, messages: Sequence[Message], *, open_turn: bool = False) -> Prompt:
        """The prompt that asks for the assistant's answer.

        Args:
            messages: the whole conversation.
            open_turn: the last message is not complete: leave out its end and the request for an
                answer, so that what comes later continues this prompt.

        Raises:
            ConfigError: a message is not what the template allows.
        """
        collected = _Collector()
        for index, message in enumerate(messages):
            self._add_message(collected, message, closed=not open_turn or index < len(messages) - 1)
        if not open_turn:
            collected.add_ids([self._ids.assistant])
        return Prompt(collected.segments, mode_of(messages))

    def _add_message(self, collected: _Collector, message: Message, *, closed: bool) -> None:
        if message.role not in self._roles:
            raise ConfigError(f"no role {message.role!r}; use one of {', '.join(self._roles)}")
        collected.add_ids([self._roles[message.role]])
        self._add_parts(collected, message.parts)
        if message.tools is not None:
            self._add_tools(collected, message)
        if closed:
            collected.add_ids([self._ids.end])

    def _add_parts(self, collected: _Collector, parts: Iterable[Part]) -> None:
        after_tag = True
        for part in joined(parts):
            if isinstance(part, Text):
                collected.add_ids(self._tokenizer.encode(part.text.lstrip(WHITE_SPACE) if after_tag else part.text))
            else:
                collected.segments.append(part)
            after_tag = False

    def _add_tools(self, collected: _Collector, message: Message) -> None:
        if message.role != "system":
            raise ConfigError(f"tools stand on a {message.role} message; only a system message may carry them")
        if NO_TOKEN in (self._ids.tool, self._ids.tool_end):
            raise ConfigError("this model knows no tools; leave them out or choose another model")
        tools = (message.tools or "").lstrip(WHITE_SPACE)
        collected.add_ids([self._ids.tool, *self._tokenizer.encode(tools), self._ids.tool_end])


class _Collector:
    """Segments in the making; token ids are added to the last list of ids."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def add_ids(self, ids: list[int]) -> None:
        if self.segments and isinstance(self.segments[-1], list):
            self.segments[-1].extend(ids)
        elif ids:
            self.segments.append(list(ids))


def joined(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbouring texts joined and empty texts left out."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and result and isinstance(result[-1], Text):
            result[-1] = Text(result[-1].text + part.text)
        elif not isinstance(part, Text) or part.text:
            result.append(part)
    return result


def mode_of(messages: Iterable[Message]) -> Mode:
    """Mode of a whole conversation."""
    parts = [part for message in messages for part in message.parts]
    images = any(isinstance(part, Image) for part in parts)
    return Mode.of(images=images, audios=any(isinstance(part, Audio) for part in parts))
