"""The conversation: what was said so far, and what happens to it when an answer ends, stops or fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.runtime.messages import Audio, Image, Message, Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.runtime.messages import Part


@dataclass(slots=True)
class Conversation:
    """A system message and finished turns (a question with its answer).

    A question enters only together with its answer: whatever fails in between, the conversation
    is as it was before the question, and the next one works.

    Attributes:
        system_message: empty for none.
    """

    system_message: str = ""
    _turns: list[tuple[Message, Message]] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of finished turns."""
        return len(self._turns)

    def with_question(self, parts: Iterable[Part]) -> list[Message]:
        """The messages for the model when ``parts`` are asked next."""
        return [*self.messages(), question(parts)]

    def messages(self) -> list[Message]:
        """Everything so far: the system message if there is one, then the turns."""
        start = [Message("system", (Text(self.system_message),))] if self.system_message else []
        return start + [message for turn in self._turns for message in turn]

    def add_turn(self, parts: Iterable[Part], answer: str) -> None:
        """Keep a question and its answer; an answer the user stopped is kept as far as it came."""
        self._turns.append((question(parts), Message("assistant", (Text(answer),))))

    def drop_oldest(self, n_turns: int) -> None:
        """Forget the oldest turns, after the session had to leave them out."""
        del self._turns[:n_turns]

    def clear(self) -> None:
        """Forget every turn; the system message stays."""
        self._turns.clear()


def question(parts: Iterable[Part]) -> Message:
    """A user message in the order the model was trained on: pictures, sounds, then text (phi4mm 1.5)."""
    return Message("user", tuple(sorted(parts, key=_rank)))


def _rank(part: Part) -> int:
    return (Image, Audio, Text).index(type(part))
