"""Sessions against the numpy reference, and every way of using them against a fresh session."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from language_reference import Reference, relative_error
from session_models import TinyModel, audio, image, message
from tiny_language import CONTEXT_TOKENS, N_VOCAB, ORIGINAL_TOKENS, TOKEN_IDS

from app.common.errors import Cancelled, ConfigError, ContextOverflowError, HearseeError
from app.runtime import kv_prefix
from app.runtime.events import Finished, GenerateOptions, PrefillProgress, SessionOptions, TokenText, TurnsDropped
from app.runtime.language.model import LanguageModel, RopeLengths
from app.runtime.language.sampling import SamplingOptions
from app.runtime.language.tokenizer import Tokenizer
from app.runtime.messages import Audio, Image
from app.runtime.session import Session

HELLO = [message("system", "Be brief."), message("user", "what is this?")]
LOOK = [message("user", image(30), "what is this picture about?")]
LISTEN = [message("user", audio(20))]
BOTH = [message("user", image(25, 1), audio(12, 1))]
MANY = [message("user", audio(5, 2), "and", image(9, 2), image(9, 2), "then", audio(6, 3), image(3, 4))]
CONVERSATIONS = {"text": HELLO, "vision": LOOK, "speech": LISTEN, "vision_speech": BOTH, "many": MANY}
LONG_TEXT = [message("user", "the quick brown fox jumps over the lazy dog. " * 12)]


@pytest.fixture(scope="module")
def language(language_path, adapter_paths):
    lengths = RopeLengths(ORIGINAL_TOKENS, CONTEXT_TOKENS)
    with LanguageModel(language_path, lengths, adapters=adapter_paths) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def tiny(language, tiny_tokenizer_json):
    return TinyModel(language, Tokenizer(tiny_tokenizer_json))


@pytest.fixture
def session(tiny):
    with Session(tiny) as session:
        yield session


def expected_logits(tiny, adapter_paths, messages, answer):
    """Logits by the numpy reference, from the description of the prompt alone."""
    ids, model = TOKEN_IDS, tiny
    has = {kind: any(isinstance(part, kind) for m in messages for part in m.parts) for kind in (Image, Audio)}
    adapter = "vision" if has[Image] else "speech" if has[Audio] else None
    projector = "vision" if has[Image] and has[Audio] else "speech"
    rows = []
    for m in messages:
        rows.append(getattr(ids, m.role))
        for part in m.parts:
            media = isinstance(part, Image | Audio)
            rows.extend(model.media.rows(part, projector) if media else model.tokenizer.encode(part.text))
        rows.append(ids.end)
    rows = [*rows, ids.assistant, *answer]
    reference = Reference(model.language.path, adapter_paths.get(adapter))
    return reference.logits(rows, long=len(rows) > ORIGINAL_TOKENS)[len(rows) - len(answer) - 1 :]


def answers(session, messages, **options):
    events = list(session.generate(messages, GenerateOptions(**options)))
    assert isinstance(events[-1], Finished)
    return events, events[-1].stats


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TokenText))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_logits_are_those_of_the_reference_in_every_mode(session, tiny, adapter_paths, name):
    answer = tiny.tokenizer.encode("the answer is 42")
    tokens, logits = session.logits(CONVERSATIONS[name], answer)
    assert logits.shape == (len(answer) + 1, N_VOCAB)
    assert tokens.dtype == np.int32
    assert tokens[-len(answer) :].tolist() == answer
    assert relative_error(logits, expected_logits(tiny, adapter_paths, CONVERSATIONS[name], answer)) < 1e-4


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_long_conversations_use_the_long_factors_by_their_total_length(session, tiny, adapter_paths, name):
    messages = [*LONG_TEXT, message("assistant", "ok"), *CONVERSATIONS[name]]
    tokens, logits = session.logits(messages, [5, 6])
    assert len(tokens) > ORIGINAL_TOKENS
    assert relative_error(logits, expected_logits(tiny, adapter_paths, messages, [5, 6])) < 1e-4


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_regime_changes_exactly_after_the_original_length(session, tiny, adapter_paths, extra):
    n_prompt = len(session.logits(HELLO)[0])
    answer = list(range(10, 10 + ORIGINAL_TOKENS - n_prompt + extra))
    tokens, logits = session.logits(HELLO, answer)
    assert len(tokens) == ORIGINAL_TOKENS + extra
    assert relative_error(logits, expected_logits(tiny, adapter_paths, HELLO, answer)) < 1e-4


def test_placeholders_stand_for_media_rows(session):
    tokens, _ = session.logits(MANY)
    assert np.count_nonzero(tokens == TOKEN_IDS.image) == 9 + 9 + 3
    assert np.count_nonzero(tokens == TOKEN_IDS.audio) == 5 + 6
    assert tokens[0] == TOKEN_IDS.user
    assert tokens[1:6].tolist() == [TOKEN_IDS.audio] * 5
    assert tokens[-2:].tolist() == [TOKEN_IDS.end, TOKEN_IDS.assistant]


def test_media_rows_are_given_out_as_they_are_fed(session, tiny):
    rows = session.media_rows(MANY, Audio)
    sounds = [part for part in MANY[0].parts if isinstance(part, Audio)]
    np.testing.assert_array_equal(rows, np.concatenate([tiny.media.rows(s, "vision") for s in sounds]))
    assert len(session.media_rows(HELLO, Image)) == 0


def test_many_logits_are_the_same_as_few(session, tiny):
    answer = list(range(60))
    _, together = session.logits(LOOK, answer)
    with Session(tiny, SessionOptions(chunk_tokens=7)) as other:
        _, apart = other.logits(LOOK, answer)
    np.testing.assert_allclose(together, apart, atol=1e-3)
    _, fewer = session.logits(LOOK, answer[:20])
    assert len(fewer) == 21


def greedy(tiny, adapter_paths, messages, n):
    """Greedy answer by the numpy reference, with its change of regime on the way."""
    ids = []
    while len(ids) < n:
        token = int(expected_logits(tiny, adapter_paths, messages, ids)[-1].argmax())
        if token in tiny.stop_tokens:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("name", ["text", "vision_speech"])
def test_an_answer_is_the_greedy_one_also_across_the_original_length(session, tiny, adapter_paths, name):
    messages = CONVERSATIONS[name]
    n = ORIGINAL_TOKENS - len(session.logits(messages)[0]) + 6
    expected = greedy(tiny, adapter_paths, messages, n)
    events, stats = answers(session, messages, max_tokens=n)
    assert stats.answer_tokens == len(expected)
    assert text_of(events) == tiny.tokenizer.decode(expected)
    assert stats.prompt_tokens + len(expected) > ORIGINAL_TOKENS, "the answer has to cross"


def test_an_answer_stops_at_an_end_token(session, tiny):
    with_end = SamplingOptions(grammar='root ::= "yes"')
    events, stats = answers(session, HELLO, max_tokens=50, sampling=with_end)
    assert text_of(events) == "yes"
    assert stats.finish_reason == "stop"
    assert stats.answer_tokens == len(tiny.tokenizer.encode("yes")) or stats.answer_tokens <= 3


def test_statistics_say_what_happened(session):
    _, stats = answers(session, BOTH, max_tokens=5)
    assert (stats.image_tokens, stats.audio_tokens, stats.mode) == (25, 12, "vision_speech")
    assert stats.prompt_tokens == 25 + 12 + 3
    assert (stats.cached_tokens, stats.finish_reason, stats.device) == (0, "length", "CPU")
    assert stats.ttft_ms > 0
    assert stats.decode_tokens_per_s > 0
    assert stats.prefill_tokens_per_s > 0


def test_a_follow_up_computes_only_what_is_new(session, tiny):
    session.logits(LOOK, [])
    first, _ = session.logits(LOOK, [])
    follow_up = [*LOOK, message("assistant", "a dog"), message("user", "and now?")]
    tiny.media.encoded.clear()
    events, stats = answers(session, follow_up, max_tokens=2)
    assert stats.cached_tokens == len(first)
    assert not tiny.media.encoded, "the picture is in the KV cache"
    progress = [event for event in events if isinstance(event, PrefillProgress)]
    assert progress[-1].done_tokens == progress[-1].total_tokens == stats.prompt_tokens - stats.cached_tokens


def test_progress_comes_chunk_by_chunk(tiny):
    with Session(tiny, SessionOptions(chunk_tokens=10)) as session:
        events, stats = answers(session, LONG_TEXT, max_tokens=1)
    progress = [event for event in events if isinstance(event, PrefillProgress)]
    assert [event.done_tokens for event in progress[:3]] == [10, 20, 30]
    assert progress[-1].total_tokens == stats.prompt_tokens


def test_prefilling_ahead_leaves_only_the_rest(session, tiny):
    ahead = session.prefill([*HELLO[:1], message("user", image(30))])
    assert ahead.prompt_tokens == ahead.image_tokens + len(tiny.tokenizer.encode("Be brief.")) + 3
    again = session.prefill([*HELLO[:1], message("user", image(30))])
    assert again.cached_tokens == again.prompt_tokens
    _, stats = answers(session, [*HELLO[:1], message("user", image(30), "what?")], max_tokens=1)
    assert stats.cached_tokens == ahead.prompt_tokens


def test_prefilling_ahead_of_a_sound_uses_the_adapter_it_will_need(session):
    ahead = session.prefill(HELLO[:1], open_turn=False, coming=[Audio])
    assert ahead.mode == "speech"
    _, stats = answers(session, [*HELLO[:1], *LISTEN], max_tokens=1)
    assert stats.cached_tokens == ahead.prompt_tokens - 1, "all but the request for an answer"


def test_nothing_can_be_prefilled(session):
    assert session.prefill([]).prompt_tokens == 0


def test_a_conversation_too_long_is_an_error_with_both_numbers(tiny):
    with Session(tiny, SessionOptions(context_tokens=60)) as session:
        needed = len(session.logits(LONG_TEXT)[0])
        with pytest.raises(
            ContextOverflowError, match=rf"needs {needed + 7} tokens, the limit is 60: .*new conversation"
        ):
            list(session.generate(LONG_TEXT))
        with pytest.raises(ContextOverflowError):
            session.prefill(LONG_TEXT)
        answers(session, HELLO, max_tokens=2)


def test_teacher_forcing_goes_to_the_end_of_what_the_model_allows(session):
    n_prompt = len(session.logits(HELLO)[0])
    session.logits(HELLO, [5] * (CONTEXT_TOKENS - n_prompt))
    with pytest.raises(ContextOverflowError, match=f"needs {CONTEXT_TOKENS + 1} tokens, the limit is {CONTEXT_TOKENS}"):
        session.logits(HELLO, [5] * (CONTEXT_TOKENS - n_prompt + 1))


def test_an_answer_ends_where_the_context_does(tiny):
    with Session(tiny, SessionOptions(context_tokens=60, reserve_tokens=1)) as session:
        _, stats = answers(session, HELLO, max_tokens=1000)
    assert stats.finish_reason == "length"
    assert stats.prompt_tokens + stats.answer_tokens == 60


def test_the_oldest_turns_are_dropped_and_the_system_message_stays(tiny):
    turns = [[message("user", f"question {i} " * 4), message("assistant", "answer")] for i in range(5)]
    conversation = [HELLO[0], *(m for turn in turns for m in turn), message("user", "last?")]
    options = SessionOptions(context_tokens=150, overflow="drop_oldest", reserve_tokens=10)
    with Session(tiny, options) as session:
        events, stats = answers(session, conversation, max_tokens=10)
        dropped = events[0]
        assert isinstance(dropped, TurnsDropped)
        assert dropped.n_messages == 2 * dropped.n_turns > 0
        assert stats.prompt_tokens <= 140
        kept = [HELLO[0], *conversation[1 + dropped.n_messages :]]
        assert len(Session(tiny).logits(kept)[0]) == stats.prompt_tokens
        one_more = [HELLO[0], *conversation[dropped.n_messages - 1 :]]
        assert len(Session(tiny).logits(one_more)[0]) > 140, "no more turns than needed"
        with pytest.raises(ContextOverflowError):
            list(session.generate([HELLO[0], message("user", image(150))]))


def test_dropping_the_only_picture_changes_the_mode(tiny):
    conversation = [message("user", image(100)), message("assistant", "ok"), *HELLO[1:]]
    with Session(tiny, SessionOptions(context_tokens=90, overflow="drop_oldest")) as session:
        events, stats = answers(session, conversation, max_tokens=1)
    assert isinstance(events[0], TurnsDropped)
    assert (stats.mode, stats.image_tokens) == ("text", 0)


def test_cancelling_an_answer_ends_it_and_the_session_goes_on(session, tiny):
    expected, _ = answers(session, HELLO, max_tokens=12)
    pieces = []
    for event in session.generate(HELLO, GenerateOptions(max_tokens=200)):
        if isinstance(event, TokenText):
            pieces.append(event.text)
            session.cancel()
    assert event.stats.finish_reason == "cancelled"
    assert len(pieces) <= 2
    again, stats = answers(session, HELLO, max_tokens=12)
    assert text_of(again) == text_of(expected)
    assert stats.finish_reason == "length"


def test_cancelling_before_the_first_token_is_an_answer_without_text(session):
    answer = session.generate(LOOK)
    session.cancel()
    events = list(answer)
    assert events[-1].stats.finish_reason == "cancelled"
    assert events[-1].stats.ttft_ms is None
    assert text_of(events) == ""


def test_a_cancel_reaches_the_call_it_was_meant_for_and_no_later_one(session):
    earlier = session.generate(HELLO, GenerateOptions(max_tokens=2))
    session.cancel()
    _, stats = answers(session, HELLO, max_tokens=2)
    assert stats.finish_reason == "length"
    assert list(earlier)[-1].stats.finish_reason == "cancelled"


def prefill_again_and_again(session):
    for seed in range(100):
        session.prefill([message("user", image(600, seed))])


def test_cancel_from_another_thread_stops_a_prefill(tiny, monkeypatch):
    options = SessionOptions(chunk_tokens=8, context_tokens=CONTEXT_TOKENS)
    with Session(tiny, options) as session:
        start = threading.Event()
        thread = threading.Thread(target=lambda: (start.wait(), session.cancel()))
        thread.start()
        monkeypatch.setattr(tiny.media, "rows", _signalling(tiny.media, start), raising=False)
        with pytest.raises(Cancelled):
            prefill_again_and_again(session)
        thread.join()
        answers(session, HELLO, max_tokens=2)


def _signalling(media, start):
    rows = type(media).rows

    def give(medium, projector, cancel):
        start.set()
        return rows(media, medium, projector, cancel)

    return give


def test_an_answer_that_is_not_read_to_its_end_can_be_closed(session):
    answer = session.generate(HELLO)
    next(answer)
    with pytest.raises(HearseeError, match="answering already"):
        next(session.generate(HELLO))
    answer.close()
    answers(session, HELLO, max_tokens=2)


def test_wrong_options_are_refused_and_leave_the_session_usable(session):
    with pytest.raises(ConfigError):
        list(session.generate(HELLO, GenerateOptions(sampling=SamplingOptions(top_p=3))))
    answers(session, HELLO, max_tokens=2)


def test_a_seeded_draw_repeats(session):
    options = {"max_tokens": 10, "sampling": SamplingOptions(temperature=30.0, seed=5)}
    first, _ = answers(session, HELLO, **options)
    second, _ = answers(session, HELLO, **options)
    assert text_of(first) == text_of(second)


def test_contexts_are_few(tiny):
    with Session(tiny, SessionOptions(max_contexts=1)) as session:
        for name in ("text", "vision", "speech", "text"):
            _, stats = answers(session, CONVERSATIONS[name], max_tokens=1)
            assert stats.cached_tokens == 0
    with Session(tiny, SessionOptions(max_contexts=3)) as session:
        for name in ("text", "vision", "speech"):
            answers(session, CONVERSATIONS[name], max_tokens=1)
        _, stats = answers(session, CONVERSATIONS["text"], max_tokens=1)
        assert stats.cached_tokens == stats.prompt_tokens - 1


def test_a_context_grows_with_its_rows(tiny, monkeypatch):
    monkeypatch.setattr(kv_prefix, "_FIRST_CAPACITY_TOKENS", 1)
    start = [message("user", image(180, 8))]
    longer = [*start, message("assistant", "ok"), message("user", image(400, 9))]
    with Session(tiny) as session, Session(tiny, SessionOptions(reuse=False)) as fresh:
        first, _ = session.logits(start)
        (held,) = session._pool._contexts.values()
        small = held.context.capacity_tokens
        _, stats = answers(session, longer, max_tokens=1)
        assert stats.cached_tokens == len(first)
        (held,) = session._pool._contexts.values()
        assert held.context.capacity_tokens > small
        np.testing.assert_allclose(session.logits(longer, [1])[1], fresh.logits(longer, [1])[1], atol=1e-3)


def test_an_answer_outgrows_its_context(tiny, monkeypatch):
    monkeypatch.setattr(kv_prefix, "_FIRST_CAPACITY_TOKENS", 1)
    messages = [message("user", image(400, 8))]
    with Session(tiny) as session, Session(tiny, SessionOptions(reuse=False)) as fresh:
        session.prefill(messages)
        (held,) = session._pool._contexts.values()
        n_tokens = held.context.capacity_tokens - 400 + 5
        assert 400 + n_tokens < CONTEXT_TOKENS
        events, stats = answers(session, messages, max_tokens=n_tokens)
        monkeypatch.undo()
        expected, _ = answers(fresh, messages, max_tokens=n_tokens)
        assert text_of(events) == text_of(expected)
        assert stats.answer_tokens == n_tokens
