from dataclasses import replace

import numpy as np
import pytest
from reference_audio import ReferenceAudio
from small_models import AUDIO, VISION, audio_weights, relative_error, vision_weights, write

from app.common.errors import Cancelled, ModelFormatError
from app.runtime.encoders import subsampling
from app.runtime.encoders.audio import AudioEncoder
from app.runtime.encoders.conformer import relative_rows
from app.runtime.encoders.layout import Layout

# around multiples of 8, one block exactly (160), one frame more, several blocks
LENGTHS = [1, 2, 7, 8, 9, 15, 100, 160, 161, 333]
VARIANTS = {
    "plain": AUDIO,
    "few bins, wide kernel": replace(AUDIO, mel_bins=3, kernel_size=5, head_count=4),
    "odd bins, kernel of one": replace(AUDIO, mel_bins=21, kernel_size=1, embedding_length=35, head_count=7),
    "one channel, one head": replace(AUDIO, conv_channels=1, head_count=1, kernel_size=2, block_count=1),
    "long bias table": replace(AUDIO, bias_max_distance=64, block_frames=17, conv_channels=9),
}
QUANTIZABLE = replace(
    AUDIO, embedding_length=64, head_count=2, feed_forward_length=96, conv_channels=32, projection_length=64
)


def features(n_frames, params, seed=5):
    return (10 + 5 * np.random.default_rng(seed).standard_normal((n_frames, params.mel_bins))).astype(np.float32)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory, cpu):
    made = {}
    for name, params in VARIANTS.items():
        weights = audio_weights(params)
        path = write(tmp_path_factory.mktemp("audio") / "a.gguf", "phi4mm-audio", params, weights)
        made[name] = (weights, AudioEncoder(path, cpu, exact=True), AudioEncoder(path, cpu))
    yield made
    for _, *pair in made.values():
        for encoder in pair:
            encoder.close()


@pytest.mark.parametrize("n_frames", LENGTHS)
@pytest.mark.parametrize("name", VARIANTS)
def test_frames_and_rows_are_those_of_the_float64_reference(encoders, name, n_frames):
    weights, exact, fast = encoders[name]
    reference = ReferenceAudio(exact.params, weights)
    log_mel = features(n_frames, exact.params)
    expected = reference.encode(log_mel)
    assert expected.shape == (-(-n_frames // 8), exact.params.embedding_length)
    frames = exact.encode(log_mel)
    assert relative_error(frames, expected) < 5e-6
    assert relative_error(fast.encode(log_mel), expected) < 5e-4  # the bias in float16
    for projector in ("speech", "vision"):
        assert relative_error(exact.project(frames, projector), reference.project(expected, projector)) < 5e-6


@pytest.mark.parametrize("chunk_bytes", [1, 100_000])
@pytest.mark.parametrize("n_frames", [64, 65, 129, 400])
def test_chunked_subsampling_equals_the_whole(encoders, monkeypatch, chunk_bytes, n_frames):
    _, exact, _ = encoders["plain"]
    log_mel = features(n_frames, AUDIO)
    whole = exact.encode(log_mel)
    monkeypatch.setattr(subsampling, "_CHUNK_BYTES", chunk_bytes)
    assert exact._subsampling._chunk_frames == (8 if chunk_bytes == 1 else 13)
    assert relative_error(exact.encode(log_mel), whole) < 1e-6


def test_half_an_hour_needs_no_more_memory_than_a_minute(tmp_path, cpu):
    params = replace(AUDIO, block_frames=500, block_count=1, mel_bins=8)
    path = write(tmp_path / "a.gguf", "phi4mm-audio", params, audio_weights(params))
    with AudioEncoder(path, cpu) as encoder:
        assert encoder.encode(features(6_000, params)).shape == (750, params.embedding_length)
        minute_bytes = encoder.working_bytes
        frames = encoder.encode(features(180_000, params))
        assert frames.shape == (22_500, params.embedding_length)
        assert np.isfinite(frames).all()
        assert encoder.working_bytes <= 1.5 * minute_bytes


def test_blocks_do_not_see_each_other(encoders):
    _, exact, _ = encoders["plain"]
    log_mel = features(640, AUDIO)
    before = exact.encode(log_mel)
    log_mel[400:] += 1
    after = exact.encode(log_mel)
    assert np.array_equal(after[:40], before[:40])
    assert not np.allclose(after[45:60], before[45:60])


@pytest.mark.parametrize(
    ("kind", "layout", "bound"),
    [
        ("F16", Layout.STORED, 2e-3),
        ("BF16", Layout.STORED, 1.5e-2),
        ("Q8_0", Layout.STORED, 2.5e-2),
        ("Q8_0", Layout.BF16, 2e-2),
        ("Q8_0", Layout.F32, 1.5e-2),
        ("Q4_0", Layout.BF16, 2e-1),
    ],
)
def test_quantized_weights_cost_a_bounded_error(tmp_path, cpu, kind, layout, bound):
    weights = audio_weights(QUANTIZABLE)
    path = write(tmp_path / "a.gguf", "phi4mm-audio", QUANTIZABLE, weights, kind)
    log_mel = features(333, QUANTIZABLE)
    with AudioEncoder(path, cpu, layout=layout) as encoder:
        error = relative_error(encoder.encode(log_mel), ReferenceAudio(QUANTIZABLE, weights).encode(log_mel))
    assert 1e-5 < error < bound


def test_cancel_stops_and_the_encoder_works_afterwards(encoders):
    _, exact, _ = encoders["plain"]
    log_mel = features(333, AUDIO)
    before = exact.encode(log_mel)
    asked = []
    with pytest.raises(Cancelled):
        exact.encode(log_mel, cancel=lambda: asked.append(1) is None and len(asked) > 30)
    assert np.array_equal(exact.encode(log_mel), before)


def test_features_of_another_width_are_a_programming_error(encoders):
    _, exact, _ = encoders["plain"]
    for shape in ((5, 79), (0, 80), (80,)):
        with pytest.raises(ValueError, match="log-mel"):
            exact.encode(np.zeros(shape, np.float32))


def test_a_vision_file_is_not_an_audio_encoder(tmp_path, cpu):
    path = write(tmp_path / "v.gguf", "phi4mm-vision", VISION, vision_weights(VISION))
    with pytest.raises(ModelFormatError, match="phi4mm-vision"):
        AudioEncoder(path, cpu)


def test_a_missing_tensor_is_named(tmp_path, cpu):
    weights = audio_weights(AUDIO)
    del weights["a.blk.1.conv.dw.bias"]
    path = write(tmp_path / "a.gguf", "phi4mm-audio", AUDIO, weights)
    with pytest.raises(ModelFormatError, match=r"a\.blk\.1\.conv\.dw\.bias is missing"):
        AudioEncoder(path, cpu)


def test_more_blocks_than_tensors_are_refused_at_once(tmp_path, cpu):
    params = replace(AUDIO, block_count=2**31 - 1)
    path = write(tmp_path / "a.gguf", "phi4mm-audio", params, audio_weights(AUDIO), tensors_of=AUDIO)
    with pytest.raises(ModelFormatError, match="2147483647 blocks"):
        AudioEncoder(path, cpu)


def test_relative_rows_are_key_minus_query_clipped():
    assert relative_rows(4, 2).reshape(4, 4).tolist() == [[2, 3, 3, 3], [1, 2, 3, 3], [0, 1, 2, 3], [0, 0, 1, 2]]
