"""Encoder files with flipped bits: refused by name or usable, never the end of the process."""

import random

import numpy as np
import pytest
from small_models import AUDIO, VISION, audio_weights, vision_weights, write

from app.common.errors import HearseeError
from app.runtime.encoders.audio import AudioEncoder
from app.runtime.encoders.vision import VisionEncoder
from app.runtime.vision.tiling import tile_image

_HEAD_BYTES = 2500  # metadata and the first tensors' descriptions


def see(path, backend):
    with VisionEncoder(path, backend) as encoder:
        encoder.encode(tile_image(np.zeros((60, 90, 3), np.uint8), encoder.params))


def hear(path, backend):
    with AudioEncoder(path, backend) as encoder:
        frames = encoder.encode(np.full((170, encoder.params.mel_bins), 9, np.float32))
        encoder.project(frames, "speech")


def refusal(use, path, backend):
    """The message of our own error, or None where the file still works."""
    try:
        use(path, backend)
    except HearseeError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    vision = write(folder / "v.gguf", "phi4mm-vision", VISION, vision_weights(VISION))
    audio = write(folder / "a.gguf", "phi4mm-audio", AUDIO, audio_weights(AUDIO))
    return {see: vision.read_bytes(), hear: audio.read_bytes()}


@pytest.mark.parametrize("use", [see, hear])
@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits(files, tmp_path, cpu, use, seed):
    rng, data = random.Random(seed), bytearray(files[use])
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(_HEAD_BYTES)] ^= 1 << rng.randrange(8)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    message = refusal(use, path, cpu)
    assert message is None or (str(path) in message and "\n" not in message)


@pytest.mark.parametrize("use", [see, hear])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.6, 0.999])
def test_truncated_files(files, tmp_path, cpu, use, share):
    path = tmp_path / "short.gguf"
    path.write_bytes(files[use][: int(len(files[use]) * share)])
    with pytest.raises(HearseeError, match=r"short\.gguf"):
        use(path, cpu)
