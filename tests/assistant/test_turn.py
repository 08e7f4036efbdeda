from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from app.assistant.conversation import Conversation
from app.assistant.turn import Assistant
from app.common.errors import Cancelled, ContextOverflowError
from app.runtime.events import Finished, GenerateOptions, Stats, TokenText, TurnsDropped
from app.runtime.messages import Text

STATS = Stats(
    prompt_tokens=5,
    cached_tokens=0,
    image_tokens=0,
    audio_tokens=0,
    answer_tokens=2,
    ttft_ms=1.0,
    prefill_tokens_per_s=1.0,
    decode_tokens_per_s=1.0,
    finish_reason="stop",
    mode="text",
    device="CPU",
)
CANCELLED = Finished(replace(STATS, finish_reason="cancelled"))


class ScriptedSession:
    """Plays events; records what it was asked; never lets two calls run at once."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.prompts = []
        self.prefills = []
        self.busy = threading.Lock()
        self.cancelled = threading.Event()
        self.hold_prefill = False
        self.prefilling = threading.Event()

    def prefill(self, messages, *, open_turn=True, coming=()):
        with self.entered():
            self.prefills.append((list(messages), open_turn))
            self.prefilling.set()
            if self.hold_prefill:
                assert self.cancelled.wait(10)
                raise Cancelled

    def generate(self, messages, options):
        self.prompts.append([part.text for message in messages for part in message.parts])
        with self.entered():
            for event in self.scripts.pop(0):
                if isinstance(event, Exception):
                    raise event
                yield event

    def cancel(self):
        self.cancelled.set()

    def entered(self):
        assert self.busy.acquire(blocking=False), "two calls at once"
        return _Releasing(self.busy)


class _Releasing:
    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lock.release()


def _assistant(session):
    return Assistant(session, Conversation("s"), GenerateOptions())


def test_an_answer_becomes_part_of_the_next_question():
    session = ScriptedSession([TokenText("b"), TokenText("c"), Finished(STATS)], [Finished(STATS)])
    with _assistant(session) as assistant:
        assert [type(event) for event in assistant.ask([Text("a")])] == [TokenText, TokenText, Finished]
        list(assistant.ask([Text("d")]))
    assert session.prompts == [["s", "a"], ["s", "a", "bc", "d"]]


def test_after_an_error_the_conversation_is_as_before():
    session = ScriptedSession([TokenText("b"), ContextOverflowError("too long")], [Finished(STATS)])
    with _assistant(session) as assistant:
        with pytest.raises(ContextOverflowError):
            list(assistant.ask([Text("a")]))
        list(assistant.ask([Text("d")]))
    assert session.prompts[-1] == ["s", "d"]


def test_a_stopped_answer_is_kept_as_far_as_it_came():
    session = ScriptedSession([TokenText("half"), CANCELLED], [CANCELLED], [Finished(STATS)])
    with _assistant(session) as assistant:
        list(assistant.ask([Text("a")]))
        list(assistant.ask([Text("stopped at once")]))
        list(assistant.ask([Text("d")]))
    assert session.prompts[-1] == ["s", "a", "half", "d"]


def test_turns_the_session_dropped_are_forgotten():
    session = ScriptedSession(
        [TokenText("b"), Finished(STATS)], [TurnsDropped(1, 2, 9), TokenText("d"), Finished(STATS)]
    )
    with _assistant(session) as assistant:
        list(assistant.ask([Text("a")]))
        list(assistant.ask([Text("c")]))
        assert [message.parts[0].text for message in assistant.conversation.messages()] == ["s", "c", "d"]


def test_media_are_prefilled_in_an_open_turn_before_the_question():
    session = ScriptedSession([Finished(STATS)])
    with _assistant(session) as assistant:
        assistant.prepare(lambda: [Text("media")])
        list(assistant.ask([Text("a")]))
    messages, open_turn = session.prefills[0]
    assert [message.role for message in messages] == ["system", "user"]
    assert open_turn


def test_with_nothing_attached_only_what_is_settled_is_prefilled():
    session = ScriptedSession()
    with _assistant(session) as assistant:
        assistant.prepare(list)
        assert session.prefilling.wait(10)
    messages, open_turn = session.prefills[0]
    assert [message.role for message in messages] == ["system"]
    assert not open_turn


def test_leaving_stops_what_runs_ahead():
    session = ScriptedSession()
    session.hold_prefill = True
    with _assistant(session) as assistant:
        assistant.prepare(lambda: [Text("a")])
        assert session.prefilling.wait(10)
    assert session.cancelled.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefill-ahead"]


def test_a_failure_ahead_is_left_for_the_question_to_meet():
    def broken():
        raise ContextOverflowError("too long")

    session = ScriptedSession([TokenText("b"), Finished(STATS)])
    with _assistant(session) as assistant:
        assistant.prepare(broken)
        assert [type(event) for event in assistant.ask([Text("a")])] == [TokenText, Finished]


def test_stopping_while_the_question_waits_for_the_prefill_stops_the_question():
    session = ScriptedSession([Finished(STATS)])
    session.hold_prefill = True
    with _assistant(session) as assistant:
        assistant.prepare(lambda: [Text("a")])
        assert session.prefilling.wait(10)
        timer = threading.Timer(0.1, assistant.cancel)
        timer.start()
        with pytest.raises(Cancelled):
            list(assistant.ask([Text("a")]))
        timer.join()
    assert session.prompts == []
