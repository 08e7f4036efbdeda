"""``hearsee bench session``: what reuse and working ahead are worth, in time to the first token.

The history holds a 1920x1080 picture; the questions are typed, or spoken for five seconds.
"""

from __future__ import annotations

import time
from statistics import median, quantiles
from typing import TYPE_CHECKING

import numpy as np

from app.bench.random_model import random_model
from app.runtime.events import Finished, GenerateOptions, SessionOptions, Stats, TokenText
from app.runtime.messages import Audio, Image, Message, Text
from app.runtime.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from app.runtime.session import Session

SOFT_TO_HARD_END_S = 0.4  # silence of 0.2 s starts the work, silence of 0.6 s ends the utterance
_QUESTION_S = 5.0
_PAGE_CHARACTERS = 3000
_PAGES = 20
_SENTENCE = "the picture on the wall shows an old harbour with many small boats and people walking along the pier "


def run(*, full: bool, say: Callable[[str], None]) -> dict[str, float]:
    """Figures by name; see docs/runtime.md for what they mean."""
    return measure(random_model(full=full, say=say), say=say, n_rounds=3 if full else 7)


def measure(
    directory: Path, *, say: Callable[[str], None], n_rounds: int, n_threads: int | None = None
) -> dict[str, float]:
    """All figures of one model.

    Args:
        directory: the model.
        say: takes progress lines.
        n_rounds: repetitions of everything but the cold start.
        n_threads: None for one per core.
    """
    with Model.open(directory, device="cpu", n_threads=n_threads) as model:
        say("tokenising 20 pages")
        figures = {"tokenize_20_pages_ms": min(_tokenize_s(model) for _ in range(n_rounds)) * 1e3}
        with model.session(SessionOptions(context_tokens=8192)) as session:
            say("asking about a picture, then asking again")
            figures |= _follow_up(session, n_rounds)
            say("asking by voice, with and without work done ahead")
            figures |= _spoken(session, n_rounds)
    return figures


def _tokenize_s(model: Model) -> float:
    text = (_SENTENCE * (_PAGES * _PAGE_CHARACTERS // len(_SENTENCE) + 1))[: _PAGES * _PAGE_CHARACTERS]
    start = time.perf_counter()
    model.tokenizer.encode(text)
    return time.perf_counter() - start


def _follow_up(session: Session, n_rounds: int) -> dict[str, float]:
    """First tokens of follow-up questions, and of the same with nothing but their new tokens to compute."""
    history = _history(_picture(0))
    cold_s, _ = _first_token(session, [*history, _typed("And what is on the left of it?", 0)])
    warm, alone = [], []
    for number in range(1, n_rounds + 1):
        conversation = [*history, _typed("And what is on the left of it?", number)]
        elapsed_s, stats = _first_token(session, conversation)
        warm.append(elapsed_s)
        alone.append(_rows_only_s(session, conversation, stats.prompt_tokens - stats.cached_tokens))
    return {
        "first_token_cold_ms": cold_s * 1e3,
        "first_token_warm_ms": median(warm) * 1e3,
        "follow_up_vs_new_tokens_only": min(warm) / min(alone),
    }


def _rows_only_s(session: Session, conversation: Sequence[Message], n_rows: int) -> float:
    """The least a follow-up can cost: its new rows, at their place after the history, and one choice."""
    cached, ids = session.last_rows(conversation, n_rows)
    context = cached.context
    begin = context.n_tokens
    start = time.perf_counter()
    context.decode(ids, 1)
    context.logits()[0].argmax()
    elapsed_s = time.perf_counter() - start
    context.forget(begin)
    return elapsed_s


def _spoken(session: Session, n_rounds: int) -> dict[str, float]:
    """Spoken questions: from the release of the key, from the hard end of speech, and with no work ahead."""
    history = _history(_picture(1))
    list(session.generate([*history, _spoken_question(0)], GenerateOptions(max_tokens=1)))
    released, hard_end, unprepared = [], [], []
    for number in range(1, n_rounds + 1):
        session.prefill(history, open_turn=False, coming=[Audio])
        released.append(_first_token_s(session, [*history, _spoken_question(number)]))
        hard_end.append(_after_hard_end_s(session, [*history, _spoken_question(-number)]))
    for number in range(2):
        fresh = _history(_picture(2 + number))
        unprepared.append(_first_token_s(session, [*fresh, _spoken_question(100 + number)]))
    return {
        "key_release_to_first_token_p50_ms": median(released) * 1e3,
        "first_token_after_hard_end_p50_ms": median(hard_end) * 1e3,
        "first_token_after_hard_end_p90_ms": quantiles(hard_end, n=10, method="inclusive")[-1] * 1e3,
        "hidden_share": 1 - median(hard_end) / median(unprepared),
    }


def _after_hard_end_s(session: Session, conversation: Sequence[Message]) -> float:
    """Work begins at the soft end; what of it is left at the hard end, and the answer's start, is waited for."""
    start = time.perf_counter()
    session.prefill(conversation, open_turn=False)
    late_s = max(0.0, time.perf_counter() - start - SOFT_TO_HARD_END_S)
    return late_s + _first_token_s(session, conversation)


def _first_token_s(session: Session, conversation: Sequence[Message]) -> float:
    return _first_token(session, conversation)[0]


def _first_token(session: Session, conversation: Sequence[Message]) -> tuple[float, Stats]:
    """Seconds to the first token, and the answer's figures."""
    start = time.perf_counter()
    answer = session.generate(conversation, GenerateOptions(max_tokens=1))
    first = next(event for event in answer if isinstance(event, TokenText | Finished))
    elapsed_s = time.perf_counter() - start
    *_, finished = first, *answer
    assert isinstance(finished, Finished)
    return elapsed_s, finished.stats


def _history(picture: Image) -> list[Message]:
    question = Message("user", (picture, Text("What is shown in this picture?")))
    return [question, Message("assistant", (Text("An old harbour with many small boats."),))]


def _typed(text: str, number: int) -> Message:
    return Message("user", (Text(f"{number}. {text}"),))


def _spoken_question(seed: int) -> Message:
    """Five seconds of noise; a seed is one question."""
    generator = np.random.default_rng(abs(seed) * 2 + (seed < 0))
    samples = 0.1 * generator.standard_normal(int(_QUESTION_S * 16000), dtype=np.float32)
    return Message("user", (Audio.from_samples(samples, 16000),))


def _picture(seed: int) -> Image:
    """1920x1080 pixels of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    return Image.from_pixels(pixels, "picture")
