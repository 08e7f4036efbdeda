from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.common.resample import Resampler, resample

GOLDENS = Path(__file__).parents[1] / "golden" / "media.npz"
RATES = [(48000, 16000), (32000, 16000), (96000, 16000), (44100, 16000), (11025, 16000), (6000, 8000), (12345, 16000)]


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
def test_agrees_with_scipy(rate_in, rate_out):
    with np.load(GOLDENS) as goldens:
        samples, expected = goldens[f"samples_{rate_in}_{rate_out}"], goldens[f"resample_{rate_in}_{rate_out}"]
    result = resample(samples, rate_in, rate_out)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=12),
    rates=st.sampled_from([*RATES, (16000, 16000), (8000, 16000)]),
)
def test_blocks_change_nothing(cuts, rates):
    samples = np.random.default_rng(len(cuts)).uniform(-1, 1, sum(cuts))
    resampler = Resampler(*rates)
    blocks = [resampler.push(block) for block in np.split(samples, np.cumsum(cuts))]
    joined = np.concatenate([*blocks, resampler.finish()])
    assert len(joined) == -(-len(samples) * rates[1] // rates[0])
    np.testing.assert_allclose(joined, resample(samples, *rates), atol=1e-12)


def test_a_tone_keeps_its_frequency_and_height():
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    result = resample(tone, 44100, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(result[500:-500], expected[500:-500], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_removed():
    tone = np.sin(2 * np.pi * 12000 * np.arange(48000) / 48000)
    assert np.abs(resample(tone, 48000, 16000)[500:-500]).max() < 5e-3


def test_a_stream_keeps_only_a_filter_length():
    resampler = Resampler(48000, 16000)
    for _ in range(100):
        resampler.push(np.zeros(4800))
    assert len(resampler._pending) < 200
