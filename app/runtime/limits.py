"""What happens when a conversation outgrows the context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.common.errors import ContextOverflowError
from app.runtime.events import TurnsDropped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.runtime.messages import Message


def overflow_error(needed_tokens: int, limit_tokens: int) -> ContextOverflowError:
    """The error that tells both numbers and what to do."""
    return ContextOverflowError(
        f"the conversation needs {needed_tokens} tokens, the limit is {limit_tokens}: "
        "shorten it, leave out a picture or sound, or start a new conversation"
    )


def drop_oldest_turns(
    messages: Sequence[Message], count: Callable[[Message], int], limit_tokens: int
) -> tuple[list[Message], TurnsDropped | None]:
    """Leave out the oldest whole turns until the rest fits.

    A turn is a user message and what follows it up to the next one. System messages at the start
    and the last turn always stay.

    Args:
        messages: the whole conversation.
        count: tokens of one message, its tags included.
        limit_tokens: what the messages may need in all.

    Returns:
        The messages that are left, and what was dropped (None: nothing).

    Raises:
        ContextOverflowError: even the last turn alone is too long.
    """
    head, turns = split_turns(messages)
    lengths = [sum(map(count, turn)) for turn in turns]
    total = sum(map(count, head)) + sum(lengths)
    n_dropped = dropped_tokens = 0
    while total - dropped_tokens > limit_tokens:
        if n_dropped >= len(turns) - 1:
            raise overflow_error(total - dropped_tokens, limit_tokens)
        dropped_tokens += lengths[n_dropped]
        n_dropped += 1
    kept = [*head, *(message for turn in turns[n_dropped:] for message in turn)]
    dropped = TurnsDropped(n_dropped, len(messages) - len(kept), dropped_tokens) if n_dropped else None
    return kept, dropped


def split_turns(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    """System messages at the start, and turns that each begin with a user message.

    What stands between them, an assistant's greeting say, is a turn of its own.
    """
    n_head = 0
    while n_head < len(messages) and messages[n_head].role == "system":
        n_head += 1
    turns: list[list[Message]] = []
    for message in messages[n_head:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return list(messages[:n_head]), turns
