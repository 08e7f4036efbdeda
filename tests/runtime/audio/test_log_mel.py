from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest

from app.common.errors import MediaError
from app.runtime.audio import log_mel as module
from app.runtime.audio.log_mel import frame_count, log_mel

GOLDENS = Path(__file__).parents[2] / "golden" / "media.npz"
SPEECH = Path(os.environ.get("HEARSEE_SPEECH_DIR", Path(__file__).parents[4] / "shared" / "data"))


def read_speech(name: str) -> tuple[np.ndarray, int]:
    """Real speech with published figures; it is not part of the project."""
    if not (SPEECH / name).exists():
        pytest.skip(f"set HEARSEE_SPEECH_DIR to a folder with {name}")
    with wave.open(str(SPEECH / name)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        return samples, file.getframerate()


@pytest.mark.parametrize("rate_hz", [16000, 8000])
def test_agrees_with_a_literal_transcription_of_the_reference(rate_hz, make_params):
    with np.load(GOLDENS) as goldens:
        samples, expected = goldens[f"speech_{rate_hz}"], goldens[f"log_mel_{rate_hz}"]
    result = log_mel(samples, rate_hz, make_params())
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=2e-5, rtol=0)


def test_published_figures_of_wide_band_speech(make_params):
    result = log_mel(*read_speech("1272-141231-0002.wav"), make_params())
    assert result.shape == (1332, 80)
    first = [5.35081, 5.80234, 6.48817, 4.96412, 7.85918]
    last = [11.77857, 12.03768, 12.24537, 11.94638, 12.71007]
    np.testing.assert_allclose(result[0, [0, 1, 2, 3, 4, 75, 76, 77, 78, 79]], first + last, atol=2e-5)
    assert result[700, 40] == pytest.approx(19.364803, abs=2e-5)
    assert result.sum(dtype=np.float64) == pytest.approx(1563397.712, abs=0.05)
    golden = np.loadtxt(SPEECH / "1272-141231-0002.first10mel.golden.txt", delimiter=",")
    np.testing.assert_allclose(result[:, :10], golden, atol=2e-5)


def test_published_figures_of_narrow_band_speech(make_params):
    result = log_mel(*read_speech("1272-128104-0004-8k.wav"), make_params())
    assert result.shape == (2938, 80)
    np.testing.assert_allclose(result[0, :5], [7.48107, 7.79844, 8.34847, 7.42612, 6.65122], atol=2e-5)
    assert result.sum(dtype=np.float64) == pytest.approx(2493474.468, abs=0.1)


def test_narrow_band_sound_leaves_the_upper_channels_at_zero(make_params):
    samples = np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32)
    result = log_mel(samples, 8000, make_params())
    assert not result[:, 62:].any()
    assert result[:, :61].all()


@pytest.mark.parametrize("block_frames", [1, 7, 1000])
def test_blocks_change_nothing(block_frames, make_params, monkeypatch):
    samples = np.random.default_rng(1).uniform(-1, 1, 9000).astype(np.float32)
    whole = log_mel(samples, 16000, make_params())
    monkeypatch.setattr(module, "_BLOCK_FRAMES", block_frames)
    np.testing.assert_allclose(log_mel(samples, 16000, make_params()), whole, atol=2e-5)


@pytest.mark.parametrize(("n_samples", "n_frames"), [(400, 1), (559, 1), (560, 2), (16000, 98), (480000, 2998)])
def test_frame_count(n_samples, n_frames, make_params):
    assert frame_count(n_samples, 16000, make_params()) == n_frames
    if n_samples <= 16000:
        assert log_mel(np.zeros(n_samples, np.float32), 16000, make_params()).shape == (n_frames, 80)


def test_sizes_come_from_the_parameters(make_params):
    params = make_params(
        mel_bins=24, mel_high_hz=5000.0, sample_rate_hz=12000, window_length=300, hop_length=100, n_fft=400
    )
    t = np.arange(12000) / 12000
    result = log_mel((0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32), 12000, params)
    assert result.shape == (118, 24)
    centres = np.linspace(0, 1127 * np.log(1 + 5000 / 700), 26)[1:-1]
    assert result[50].argmax() == np.abs(centres - 1127 * np.log(1 + 1000 / 700)).argmin()


def test_silence_is_zero(make_params):
    assert not log_mel(np.zeros(4000, np.float32), 16000, make_params()).any()


def test_less_than_a_window_names_both_lengths(make_params):
    with pytest.raises(MediaError, match=r"10 ms long; at least 25 ms"):
        log_mel(np.zeros(160, np.float32), 16000, make_params())


def test_foreign_rates_are_refused(make_params):
    with pytest.raises(MediaError, match="44100 Hz"):
        log_mel(np.zeros(44100, np.float32), 44100, make_params())
