"""Reuse changes nothing: whatever a session did before, its logits are those of a fresh one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from session_models import TinyModel, audio, image, message
from tiny_language import CONTEXT_TOKENS, ORIGINAL_TOKENS

from app.runtime.events import GenerateOptions, PrefillProgress, SessionOptions
from app.runtime.language.context import ContextOptions
from app.runtime.language.model import LanguageModel, RopeLengths
from app.runtime.language.tokenizer import Tokenizer
from app.runtime.messages import Audio, Image, Message
from app.runtime.session import Session

TOLERANCE = 1e-3

texts = st.sampled_from(["what is this?", " the quick brown fox", "日本語", "a", "over the lazy dog " * 6])
pictures = st.builds(image, st.sampled_from([2, 17, 40]), st.integers(0, 2))
sounds = st.builds(audio, st.sampled_from([1, 9, 33]), st.integers(0, 2))
questions = st.lists(st.one_of(texts, pictures, sounds), min_size=1, max_size=4)
answers = st.lists(st.integers(0, 369), max_size=5)


@st.composite
def conversations(draw):
    """A few turns, perhaps after a system message."""
    messages = [message("system", "Be brief.")] if draw(st.booleans()) else []
    for question in draw(st.lists(questions, min_size=1, max_size=3)):
        messages += [message("user", *question), message("assistant", draw(texts))]
    return messages[:-1]


@st.composite
def histories(draw):
    """Conversations of which most continue an earlier one, or part from it on the way."""
    whole = draw(conversations())
    steps = [whole]
    for _ in range(draw(st.integers(1, 3))):
        kept = whole[: draw(st.integers(0, len(whole)))]
        added = draw(conversations()) if draw(st.booleans()) else [message("user", *draw(questions))]
        steps.append([*kept, *added])
    return steps


@st.composite
def actions(draw):
    """Something that leaves rows behind: name, conversation, and what the name needs."""
    name = draw(st.sampled_from(["logits", "prefill", "generate", "cancel"]))
    return name, draw(st.integers(0, 12)), draw(st.booleans())


@pytest.fixture(scope="module")
def tiny(language_path, adapter_paths, tiny_tokenizer_json):
    lengths = RopeLengths(ORIGINAL_TOKENS, CONTEXT_TOKENS)
    with LanguageModel(language_path, lengths, adapters=adapter_paths) as language:
        yield TinyModel(language, Tokenizer(tiny_tokenizer_json))


def perform(session, messages, action):
    name, number, flag = action
    if name == "logits":
        session.logits(messages, list(range(number)))
    elif name == "prefill":
        session.prefill(messages, open_turn=flag, coming=[[], [Image], [Audio]][number % 3])
    elif name == "generate":
        list(session.generate(messages, GenerateOptions(max_tokens=number)))
    else:
        cancel_after(session, messages, number)


def cancel_after(session, messages, n_events):
    events = session.generate(messages, GenerateOptions(max_tokens=10))
    for _ in itertools.islice(events, n_events):
        pass
    session.cancel()
    list(events)


def fits(messages: list[Message]) -> bool:
    n_media = sum(len(p.samples) if isinstance(p, Audio) else p.pixels.shape[0] if isinstance(p, Image) else 0
                  for m in messages for p in m.parts)  # fmt: skip
    n_text = sum(len(p.text.encode()) + 2 for m in messages for p in m.parts if not isinstance(p, Image | Audio))
    return n_media + n_text + 4 * len(messages) < CONTEXT_TOKENS - 40


def difference(found, expected) -> float:
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    history=histories().filter(lambda steps: all(map(fits, steps))),
    doing=st.lists(actions(), min_size=4, max_size=4),
    answer=answers,
    chunk=st.sampled_from([1, 5, 16, 64, 256]),
    max_contexts=st.sampled_from([1, 3]),
)
def test_reuse_changes_nothing(tiny, history, doing, answer, chunk, max_contexts):
    with (
        Session(tiny, SessionOptions(chunk_tokens=chunk, max_contexts=max_contexts)) as used,
        Session(tiny, SessionOptions(reuse=False)) as fresh,
    ):
        for messages, action in zip(history, itertools.cycle(doing), strict=False):
            perform(used, messages, action)
            tokens, logits = used.logits(messages, answer)
            expected_tokens, expected = fresh.logits(messages, answer)
            np.testing.assert_array_equal(tokens, expected_tokens)
            assert difference(logits, expected) < TOLERANCE


@pytest.mark.parametrize("mode", ["text", "vision", "speech", "vision_speech"])
@pytest.mark.parametrize("n_text", [1, 30], ids=["short", "long"])
def test_a_cancelled_prefill_is_continued_as_if_it_had_not_been(tiny, mode, n_text):
    parts = {"text": [], "vision": [image(40)], "speech": [audio(33)], "vision_speech": [image(40), audio(33)]}[mode]
    messages = [message("user", *parts, "the quick brown fox jumps " * n_text)]
    with Session(tiny, SessionOptions(reuse=False)) as fresh:
        tokens, expected = fresh.logits(messages, [3, 4])
    assert (len(tokens) > ORIGINAL_TOKENS) == (n_text == 30)
    for n_chunks in (1, 2, 4):
        with Session(tiny, SessionOptions(chunk_tokens=16)) as session:
            answer = session.generate(messages)
            chunks = (event for event in answer if isinstance(event, PrefillProgress) and event.stage == "prefill")
            for _ in itertools.islice(chunks, n_chunks):
                pass
            session.cancel()
            *_, finished = answer
            assert finished.stats.finish_reason == "cancelled"
            assert difference(session.logits(messages, [3, 4])[1], expected) < TOLERANCE


@pytest.mark.parametrize("flash", [False, True], ids=["plain", "flash"])
def test_the_fast_setting_reuses_as_faithfully_as_it_computes(tiny, flash):
    """F16 KV rows are the same whether reused or not; flash attention on the CPU rounds by block size."""
    options = ContextOptions(exact=False, n_threads=1, flash_attention=flash)
    fast = TinyModel(tiny.language, tiny.tokenizer, context_options=options)
    messages = [
        message("user", image(40), "the quick brown fox jumps"),
        message("assistant", "a"),
        message("user", "b"),
    ]
    with Session(fast, SessionOptions(chunk_tokens=16)) as used, Session(fast) as fresh, Session(tiny) as exact:
        used.prefill(messages[:1])
        reused, whole, precise = (s.logits(messages, [3, 4])[1] for s in (used, fresh, exact))
    assert difference(reused, whole) < (8e-3 if flash else TOLERANCE)
    assert difference(whole, precise) < (8e-3 if flash else 2e-3)
