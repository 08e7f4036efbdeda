"""The paths that only other devices than the CPU take, on a CPU that says it is none.

What cannot be seen here: the devices' own kernels, and memory that the CPU cannot address.
"""

import numpy as np
import pytest
from reference_audio import ReferenceAudio
from reference_vision import ReferenceVision
from small_models import AUDIO, VISION, audio_weights, relative_error, vision_weights, write

from app.runtime.encoders.audio import AudioEncoder
from app.runtime.encoders.backend import Backend
from app.runtime.encoders.layout import Layout
from app.runtime.encoders.vision import VisionEncoder
from app.runtime.vision.tiling import tile_image


class OtherDevice(Backend):
    is_cpu = False


@pytest.fixture(scope="module")
def other():
    with OtherDevice("cpu", n_threads=2) as backend:
        yield backend


@pytest.mark.parametrize("exact", [True, False])
def test_uploaded_weights_and_half_precision_attention(tmp_path, other, exact):
    weights = vision_weights(VISION)
    path = write(tmp_path / "v.gguf", "phi4mm-vision", VISION, weights)
    tiles = tile_image(np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8), VISION)
    with VisionEncoder(path, other, exact=exact) as encoder:
        assert encoder._weights.layout is Layout.STORED
        rows = encoder.encode(tiles)
        assert encoder.cpu_operations["MUL_MAT"] > 0  # all of it, here
    assert relative_error(rows, ReferenceVision(VISION, weights).encode(tiles)) < 2e-3


def test_sound_on_another_device(tmp_path, other):
    weights = audio_weights(AUDIO)
    path = write(tmp_path / "a.gguf", "phi4mm-audio", AUDIO, weights)
    log_mel = (10 + 5 * np.random.default_rng(5).standard_normal((333, 80))).astype(np.float32)
    with AudioEncoder(path, other) as encoder:
        rows = encoder.project(encoder.encode(log_mel), "speech")
        assert encoder.cpu_operations["CONV_2D_DW"] >= 4
    reference = ReferenceAudio(AUDIO, weights)
    assert relative_error(rows, reference.project(reference.encode(log_mel), "speech")) < 2e-3
