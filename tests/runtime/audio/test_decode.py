from __future__ import annotations

import os
import struct
from contextlib import suppress

import numpy as np
import pytest
from helpers.media_files import encoded_sound, picture_file, tone, video_with_sound, wav_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.common.errors import MediaError
from app.common.resample import resample
from app.runtime.audio import decode
from app.runtime.audio.decode import load_audio

ENCODED = [
    ("flac", "flac", 16000),
    ("mp3", "libmp3lame", 44100),
    ("mp4", "aac", 44100),
    ("adts", "aac", 48000),
    ("ogg", "libopus", 48000),
    ("webm", "libopus", 48000),
    ("matroska", "pcm_s16le", 96000),
    ("aiff", "pcm_s16be", 22050),
    ("caf", "pcm_s16be", 16000),
    ("mpegts", "mp2", 48000),
    ("wav", "adpcm_ms", 16000),
]


def main_frequency_hz(samples: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate_hz / len(samples)


@pytest.mark.parametrize(
    ("kind", "full_scale"), [("int16", 2**15), ("int24", 2**23), ("int32", 2**31), ("float32", 0), ("float64", 0)]
)
def test_pcm_samples_arrive_exactly(kind, full_scale):
    samples = np.random.default_rng(0).uniform(-1, 1, 3000)
    audio = load_audio(wav_file(samples, 16000, kind))
    expected = np.round(samples * (full_scale - 1)) / full_scale if full_scale else samples
    assert audio.rate_hz == 16000
    assert audio.samples.dtype == np.float32
    np.testing.assert_array_equal(audio.samples, expected.astype(np.float32))


def test_eight_bit_sound_is_centred():
    audio = load_audio(wav_file(np.zeros(1000), 16000, "uint8"))
    assert not audio.samples.any()


@pytest.mark.parametrize("n_channels", [2, 6])
def test_channels_are_averaged(n_channels):
    table = np.random.default_rng(1).uniform(-1, 1, (2000, n_channels)).astype(np.float32)
    audio = load_audio(wav_file(table, 16000, "float32"))
    np.testing.assert_allclose(audio.samples, table.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize(
    ("rate_hz", "target_hz"),
    [
        (8000, 8000),
        (16000, 16000),
        (48000, 16000),
        (44100, 16000),
        (22050, 16000),
        (11025, 16000),
        (6000, 8000),
        (96000, 16000),
    ],
)
def test_rates_are_brought_to_the_models(rate_hz, target_hz):
    samples = tone(rate_hz).astype(np.float32)
    audio = load_audio(wav_file(samples, rate_hz, "float32"))
    assert audio.rate_hz == target_hz
    np.testing.assert_allclose(audio.samples, resample(samples, rate_hz, target_hz), atol=1e-6)


def test_another_models_rate_is_kept():
    assert load_audio(wav_file(tone(24000), 24000), 24000).rate_hz == 24000
    assert load_audio(wav_file(tone(12000), 12000), 24000).rate_hz == 12000


@pytest.mark.parametrize(("container", "codec", "rate_hz"), ENCODED, ids=lambda value: str(value))
def test_compressed_formats_are_known_by_content(container, codec, rate_hz, tmp_path):
    path = tmp_path / "misleading.png"
    path.write_bytes(encoded_sound(container, codec, tone(rate_hz, 1.0), rate_hz))
    audio = load_audio(path)
    assert audio.name == "misleading.png"
    assert audio.duration_s == pytest.approx(1.0, abs=0.06)
    assert main_frequency_hz(audio.samples, audio.rate_hz) == pytest.approx(440, abs=2)
    assert audio.samples[4000:-4000].std() * np.sqrt(2) == pytest.approx(0.5, rel=0.15)


def test_the_sound_track_of_a_video_is_taken():
    audio = load_audio(video_with_sound(tone(16000), 16000))
    np.testing.assert_allclose(audio.samples, tone(16000), atol=1e-4)


def test_the_name_is_no_hint(tmp_path):
    path = tmp_path / "sound.mp3"
    path.write_bytes(wav_file(tone(16000), 16000))
    assert len(load_audio(path).samples) == 8000


def test_a_wav_file_written_to_a_pipe_is_read_to_its_end():
    data = bytearray(wav_file(tone(16000), 16000))
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert len(load_audio(bytes(data)).samples) == 8000


def with_sample(value: float, kind: str) -> bytes:
    samples = tone(16000)
    samples[4321] = value
    return wav_file(samples, 16000, kind)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value, kind):
    with pytest.raises(MediaError, match="no numbers"):
        load_audio(with_sample(value, kind))


def test_signalling_nans_and_overflows_do_not_warn():
    data = bytearray(wav_file(tone(16000), 16000, "float32"))
    data[-400:] = b"\x01\x00\x80\x7f" * 100  # pytest turns warnings into errors
    with pytest.raises(MediaError, match="no numbers"):
        load_audio(bytes(data))
    huge = np.full((16000, 2), 1.7e308)
    with pytest.raises(MediaError, match=r"no numbers|full scale"):
        load_audio(wav_file(huge, 16000, "float64"))


def test_samples_far_beyond_full_scale_are_refused():
    with pytest.raises(MediaError, match="20000 times full scale"):
        load_audio(with_sample(20000.0, "float64"))


def test_samples_a_little_beyond_full_scale_are_kept():
    assert load_audio(with_sample(1.5, "float32")).samples.max() == 1.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (wav_file(np.zeros(0), 16000), r"holds no sound \(0 samples\)"),
        (wav_file(tone(16000), 16000)[:5000], "cut off"),
        (encoded_sound("flac", "flac", tone(16000, 2.0), 16000)[:15000], "cut off|damaged"),
        (picture_file(np.zeros((9, 9, 3), np.uint8), "PNG"), "no sound file"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "no sound file"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "no sound file"),
        (b"just some words\n" * 500, "no sound file"),
        (wav_file(tone(16000), 100), "claims 100 samples per second"),
        (wav_file(tone(16000), 3_000_000), "claims 3000000 samples per second"),
    ],
    ids=["empty", "no-samples", "cut-wav", "cut-flac", "picture", "playlist", "concat", "text", "slow", "fast"],
)
def test_unusable_files_say_so(data, message):
    with pytest.raises(MediaError, match=message) as caught:
        load_audio(data)
    assert "\n" not in str(caught.value)


def test_too_long_sound_is_refused():
    with pytest.raises(MediaError, match=r"longer than 0\.05 minutes"):
        load_audio(wav_file(tone(16000, 3.1), 16000), max_duration_s=3.0)


def test_missing_and_unreadable_paths(tmp_path):
    with pytest.raises(MediaError, match=r"absent\.wav cannot be read: No such file"):
        load_audio(tmp_path / "absent.wav")
    with pytest.raises(MediaError, match="is a directory"):
        load_audio(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        load_audio(tmp_path / "pipe")
    with pytest.raises(MediaError, match="cannot be read"):
        load_audio("a\0b.wav")


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    with pytest.raises(MediaError) as caught:
        load_audio(tmp_path / "two\nlines.wav")
    assert "\n" not in str(caught.value)


def test_memory_follows_the_blocks(monkeypatch):
    blocks = []
    original = decode.Resampler.push
    monkeypatch.setattr(decode.Resampler, "push", lambda self, x: blocks.append(len(x)) or original(self, x))
    load_audio(wav_file(np.zeros((96000, 6)), 96000, "float64"))
    assert max(blocks) < 10_000


SEEDS = [
    wav_file(tone(16000, 0.1), 16000, "float32"),
    *(encoded_sound(c, k, tone(r, 0.2), r) for c, k, r in ENCODED[:6]),
]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    length=st.floats(0.02, 1.0),
)
def test_damaged_files_give_sound_or_a_media_error(seed, edits, length):
    data = bytearray(seed[: int(len(seed) * length)])
    for place, patch in edits:
        start = int(place**3 * len(data))  # headers suffer most
        data[start : start + len(patch)] = patch
    with suppress(MediaError):
        audio = load_audio(bytes(data))
        assert len(audio.samples)
        assert np.isfinite(audio.samples).all()
