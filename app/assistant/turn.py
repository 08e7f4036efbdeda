"""From a question to its answer: prefill ahead while the person is still typing, then generate.

Threads: one owner thread calls everything but :meth:`Assistant.cancel`, which may be called from
any thread and from a signal handler. The session is never used by two threads at once: whatever
was started ahead is waited for before the answer begins.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol, Self

from app.assistant.policy import check_limits
from app.common.errors import Cancelled, HearseeError
from app.runtime.events import Finished, TokenText, TurnsDropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.assistant.conversation import Conversation
    from app.runtime.events import Event, GenerateOptions
    from app.runtime.messages import Audio, Image, Message, Part

_log = logging.getLogger("app.assistant")


class AnswersMessages(Protocol):
    """What the assistant needs of a runtime session."""

    def prefill(
        self,
        messages: Sequence[Message],
        *,
        open_turn: bool = True,
        coming: Sequence[type[Image] | type[Audio]] = (),
    ) -> object:
        """Evaluate the messages now, so that the answer starts sooner."""

    def generate(self, messages: Sequence[Message], options: GenerateOptions) -> Iterator[Event]:
        """Answer the last message."""

    def cancel(self) -> None:
        """Stop what runs; from any thread."""


class Assistant:
    """One conversation held with one session; a context manager that ends its helper thread."""

    def __init__(
        self,
        session: AnswersMessages,
        conversation: Conversation,
        options: GenerateOptions,
        max_audio_s: float | None = None,
    ) -> None:
        """Take over the session; ``max_audio_s`` is the longest sound the model offers to hear."""
        self.conversation = conversation
        self._session = session
        self._options = options
        self._max_audio_s = max_audio_s
        self._ahead: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_ahead()

    def prepare(self, load: Callable[[], Sequence[Part]], *, coming: Sequence[type[Image] | type[Audio]] = ()) -> None:
        """Evaluate the conversation and what ``load`` gives in the background.

        A failure is only logged: the question itself will meet it again and say so.

        Args:
            load: gives the media of the coming question, or nothing; called on the background thread.
            coming: kinds of media still on their way, such as a recording that has begun.
        """
        self.stop_ahead()
        self._stop.clear()
        self._ahead = threading.Thread(target=self._prefill, args=(load, coming), name="prefill-ahead", daemon=True)
        self._ahead.start()

    def stop_ahead(self) -> None:
        """Cancel what runs in the background and wait for its end; its finished chunks stay valid."""
        if self._ahead is not None and self._ahead.is_alive():
            self.cancel()
        self._join()

    def ask(self, parts: Sequence[Part]) -> Iterator[Event]:
        """Answer ``parts``; the turn enters the conversation when the answer is complete or was stopped.

        Raises:
            MediaError: a sound is longer than the model hears.
            ContextOverflowError: the question does not fit.
            Cancelled: it was stopped before the model began with it.
        """
        check_limits(parts, self._max_audio_s)
        self._stop.clear()
        self._join()
        if self._stop.is_set():
            raise Cancelled
        words: list[str] = []
        for event in self._session.generate(self.conversation.with_question(parts), self._options):
            if isinstance(event, TokenText):
                words.append(event.text)
            elif isinstance(event, TurnsDropped):
                self.conversation.drop_oldest(event.n_turns)
            elif isinstance(event, Finished) and (words or event.stats.finish_reason != "cancelled"):
                self.conversation.add_turn(parts, "".join(words))
            yield event

    def cancel(self) -> None:
        """Stop the running answer, which then finishes as "cancelled"; the words so far are kept."""
        self._stop.set()
        self._session.cancel()

    def _prefill(self, load: Callable[[], Sequence[Part]], coming: Sequence[type[Image] | type[Audio]]) -> None:
        try:
            parts = load()
            messages = self.conversation.with_question(parts) if parts else self.conversation.messages()
            if messages and not self._stop.is_set():
                self._session.prefill(messages, open_turn=bool(parts), coming=coming)
        except Cancelled:
            _log.debug("prefill ahead was cancelled")
        except HearseeError as error:
            _log.info("prefill ahead failed: %s", type(error).__name__)

    def _join(self) -> None:
        if self._ahead is not None:
            self._ahead.join()
            self._ahead = None
