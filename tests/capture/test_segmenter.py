from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.capture.segmenter import Segmenter, SegmenterOptions, State
from app.capture.vad import FRAME_SAMPLES
from app.common.errors import ConfigError

OPTIONS = SegmenterOptions(onset_ms=60, onset_window_ms=100, pre_roll_ms=120, hangover_ms=120, longest_ms=1000)


class LoudIsSpeech:
    """A frame counts as speech when its mean says so: the sound is its own label."""

    def is_speech(self, frame: np.ndarray) -> bool:
        return bool(frame.mean() > 0.5)


def sound(pattern: str) -> np.ndarray:
    """One frame per character; "#" is speech. Every sample carries its place in its last digits."""
    frames = np.repeat([0.9 if c == "#" else 0.1 for c in pattern], FRAME_SAMPLES)
    return (frames + np.arange(len(frames)) % 1000 * 1e-5).astype(np.float32)


def utterances(samples: np.ndarray, cuts: list[int] | None = None) -> list[np.ndarray]:
    segmenter = Segmenter(LoudIsSpeech(), OPTIONS)
    found = [u for chunk in np.split(samples, cuts or []) for u in segmenter.push(chunk)]
    rest = segmenter.finish()
    return found if rest is None else [*found, rest]


def test_an_utterance_has_its_pre_roll_and_ends_with_the_hangover():
    samples = sound("......####.#........")
    (utterance,) = utterances(samples)
    # Onset is complete at the third speech frame (8); 120 ms of pre-roll are frames 3 to 8; the end is
    # six silent frames after the last speech frame (11).
    np.testing.assert_array_equal(utterance, samples[3 * FRAME_SAMPLES : 18 * FRAME_SAMPLES])


def test_a_click_is_no_utterance():
    assert utterances(sound("....##......#....#......")) == []


def test_a_short_pause_does_not_cut():
    assert len(utterances(sound("###.....###......"))) == 1


def test_two_utterances_share_no_sample():
    samples = sound("..####......####........")
    first, second = utterances(samples)
    assert len(first) + len(second) <= len(samples)
    np.testing.assert_array_equal(second[-1:], samples[22 * FRAME_SAMPLES - 1 : 22 * FRAME_SAMPLES])


def test_endless_speech_is_cut_at_the_limit():
    found = utterances(sound("#" * 200))
    assert [len(u) for u in found[:2]] == [50 * FRAME_SAMPLES] * 2


def test_finish_gives_what_was_said_so_far():
    segmenter = Segmenter(LoudIsSpeech(), OPTIONS)
    assert list(segmenter.push(sound("..####"))) == []
    assert segmenter.state is State.SPEAKING
    rest = segmenter.finish()
    assert rest is not None
    assert len(rest) == 6 * FRAME_SAMPLES  # all that was heard: five frames up to the onset, one more
    assert segmenter.state is State.WAITING
    assert segmenter.finish() is None


@settings(max_examples=80, deadline=None)
@given(
    pattern=st.text(alphabet="#.", max_size=60),
    cuts=st.lists(st.integers(0, 60 * FRAME_SAMPLES), max_size=30).map(sorted),
)
def test_chunking_changes_nothing(pattern, cuts):
    samples = sound(pattern)
    whole, chunked = utterances(samples), utterances(samples, cuts)
    assert len(whole) == len(chunked)
    for a, b in zip(whole, chunked, strict=True):
        np.testing.assert_array_equal(a, b)


@given(pattern=st.text(alphabet="#.", max_size=80))
def test_utterances_are_pieces_of_the_sound_and_hold_enough_speech(pattern):
    samples = sound(pattern)
    position = 0
    for utterance in utterances(samples):
        start = next(i for i in range(position, len(samples), FRAME_SAMPLES) if _begins(samples[i:], utterance))
        position = start + len(utterance)
        frames = utterance.reshape(-1, FRAME_SAMPLES).mean(axis=1) > 0.5
        assert frames.sum() * 20 >= OPTIONS.onset_ms


def _begins(samples: np.ndarray, utterance: np.ndarray) -> bool:
    return np.array_equal(samples[: len(utterance)], utterance)


def test_a_pre_roll_that_would_cut_the_onset_is_refused():
    with pytest.raises(ConfigError, match="shorter than the onset window"):
        SegmenterOptions(pre_roll_ms=100)


@pytest.mark.parametrize("pattern", ["", ".", "." * 50])
def test_silence_gives_nothing(pattern):
    assert utterances(sound(pattern)) == []
