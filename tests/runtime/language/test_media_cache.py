from __future__ import annotations

import numpy as np
import pytest
from session_models import audio, image

from app.common.errors import Cancelled, MediaError, ModelFormatError
from app.runtime.formats.params import AudioParams, VisionParams
from app.runtime.media_cache import ByteLimitedCache, MediaEncoder
from app.runtime.messages import Audio, Image

VISION = VisionParams(
    embedding_length=8, feed_forward_length=8, block_count=1, head_count=1, layer_norm_epsilon=1e-6, crop_size=56,
    patch_size=14, position_grid=4, max_crops=6, pixel_mean=0.5, pixel_std=0.5, projection_length=6,
)  # fmt: skip
AUDIO = AudioParams(
    embedding_length=4, feed_forward_length=8, block_count=1, head_count=1, layer_norm_epsilon=1e-5, conv_channels=4,
    kernel_size=3, time_reduction=8, bias_max_distance=10, block_frames=10, projection_length=6, mel_bins=80,
    mel_high_hz=7690.0, sample_rate_hz=16000, window_length=400, hop_length=160, n_fft=512, preemphasis=0.97,
)  # fmt: skip
PICTURE = Image.from_pixels(np.zeros((50, 90, 3), np.uint8), "photo.png")
SOUND = Audio.from_samples(np.zeros(16000, np.float32), 16000)


class Encoders:
    """Stand-ins that count their work; rows hold the projector's number."""

    def __init__(self, columns=6):
        self.work, self.columns = [], columns

    def vision(self):
        encoders = self

        class Vision:
            def encode(self, tiles, cancel=None):
                encoders.work.append("image")
                if cancel and cancel():
                    raise Cancelled
                return np.zeros((tiles.n_tokens, encoders.columns), np.float32)

        return Vision()

    def audio(self):
        encoders = self

        class Sound:
            def encode(self, log_mel, cancel=None):
                encoders.work.append("sound")
                return np.zeros((-(-len(log_mel) // 8), 4), np.float32)

            def project(self, frames, projector, cancel=None):
                encoders.work.append(projector)
                return np.full((len(frames), encoders.columns), ord(projector[0]), np.float32)

        return Sound()


def media(encoders, max_bytes=1 << 20, **changes):
    parts = {"vision": (VISION, encoders.vision), "audio": (AUDIO, encoders.audio)} | changes
    return MediaEncoder(**parts, row_length=6, max_bytes=max_bytes)


def test_a_change_of_mode_runs_only_the_projector_again():
    encoders = Encoders()
    encoder = media(encoders)
    speech = encoder.rows(SOUND, "speech")
    assert encoders.work == ["sound", "speech"]
    vision = encoder.rows(SOUND, "vision")
    assert encoders.work == ["sound", "speech", "vision"]
    assert speech.mean() != vision.mean()
    encoder.rows(SOUND, "speech")
    encoder.rows(SOUND, "vision")
    assert len(encoders.work) == 3


def test_equal_content_is_encoded_once_whatever_it_is_called():
    encoders = Encoders()
    encoder = media(encoders)
    assert not encoder.has(PICTURE, "speech")
    rows = encoder.rows(PICTURE, "speech")
    again = encoder.rows(Image.from_pixels(PICTURE.pixels.copy(), "other.png"), "vision")
    assert encoders.work == ["image"]
    assert again is rows
    assert encoder.has(PICTURE, "speech")
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


@pytest.mark.parametrize("medium", [PICTURE, SOUND], ids=["picture", "sound"])
def test_rows_are_counted_without_encoding(medium):
    encoders = Encoders()
    encoder = media(encoders)
    n_rows = encoder.count(medium)
    assert encoders.work == []
    assert encoder.rows(medium, "speech").shape == (n_rows, 6)


def test_the_least_recently_used_rows_go_first():
    cache = ByteLimitedCache(max_bytes=3 * 400)
    for name in "abc":
        cache.put((name,), np.zeros(100, np.float32))
    cache.get(("a",))
    cache.put(("d",), np.zeros(100, np.float32))
    assert [name for name in "abcd" if cache.get((name,)) is not None] == ["a", "c", "d"]
    cache.put(("huge",), np.zeros(301, np.float32))
    assert cache.get(("huge",)) is None
    assert cache.held_bytes == 1200


def test_what_does_not_fit_the_memory_is_encoded_again():
    encoders = Encoders()
    encoder = media(encoders, max_bytes=0)
    encoder.rows(SOUND, "speech")
    encoder.rows(SOUND, "speech")
    assert encoders.work == ["sound", "speech"] * 2


def test_a_cancelled_encoding_leaves_nothing_behind():
    encoders = Encoders()
    encoder = media(encoders)
    with pytest.raises(Cancelled):
        encoder.rows(PICTURE, "speech", lambda: True)
    assert not encoder.has(PICTURE, "speech")
    encoder.rows(PICTURE, "speech", lambda: False)


def test_a_model_without_the_ability_says_so():
    blind, deaf = media(Encoders(), vision=None), media(Encoders(), audio=None)
    with pytest.raises(ModelFormatError, match="cannot see"):
        blind.count(image(3))
    with pytest.raises(ModelFormatError, match="cannot hear"):
        deaf.rows(audio(3), "speech")


def test_an_encoder_of_another_model_is_named():
    with pytest.raises(ModelFormatError, match=r"photo\.png.*do not belong together"):
        media(Encoders(columns=5)).rows(PICTURE, "speech")


def test_a_sound_too_short_for_a_frame_is_refused():
    with pytest.raises(MediaError, match="longer"):
        media(Encoders()).count(audio(10))
