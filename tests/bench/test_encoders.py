import time
from dataclasses import replace

import numpy as np
import pytest

from app.bench import encoders, random_encoders
from app.runtime.formats.gguf import GgufFile


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The bench with narrow encoders and short media, one run each."""
    vision = replace(
        random_encoders.VISION,
        embedding_length=64,
        feed_forward_length=70,
        head_count=2,
        crop_size=56,
        position_grid=4,
        projection_length=32,
    )
    audio = replace(
        random_encoders.AUDIO,
        embedding_length=64,
        feed_forward_length=64,
        head_count=2,
        conv_channels=32,
        projection_length=32,
    )
    for module in (encoders, random_encoders):
        monkeypatch.setattr(module, "VISION", vision)
        monkeypatch.setattr(module, "AUDIO", audio)
    monkeypatch.setattr(encoders, "_PICTURES", {"vision_448": (56, 56)})
    monkeypatch.setattr(encoders, "_CLIPS_S", {"audio_10s": 1})
    monkeypatch.setattr(encoders, "_RUNS", 1)
    return encoders.Conditions(2, 1, time.perf_counter, tmp_path)


def test_every_figure_is_there_and_the_layers_are_stated(small):
    said = []
    figures = encoders.measure(small, said.append)
    assert figures["vision_layers"] == figures["audio_layers"] == 2
    assert figures["threads"] == 1
    for name in ("audio_10s", "vision_448"):
        for kind in ("f32", "bf16", "q8"):
            assert figures[f"{name}_{kind}_s"] > 0
    assert figures["log_mel_30s_ms"] > 0
    assert figures["tile_12mp_ms"] > 0
    assert all(np.isfinite(value) for value in figures.values())
    assert "audio encoder" in said


def test_speed_up_and_distance_are_against_the_peer(small):
    ours, theirs = np.array([3.0, 4.0], np.float32), np.array([3.0, 3.0], np.float32)
    ticks = iter([0.0, 1.0, 0.0, 3.0, 0.0, 1.0, 0.0, 3.0])
    conditions = replace(small, clock=lambda: next(ticks))
    figures = encoders._compare("x", {"q8": lambda: ours}, conditions, lambda: theirs)
    assert figures["x_q8_speedup_vs_torch_fp32"] == 3
    assert figures["x_q8_distance_to_torch_fp32"] == pytest.approx(1 / np.sqrt(18))
    assert figures["x_torch_s"] == 3


def test_random_files_hold_the_same_weights_in_every_type(small, tmp_path):
    plain = GgufFile(random_encoders.vision_file(tmp_path, "f32", 1))
    packed = GgufFile(random_encoders.vision_file(tmp_path, "q8", 1))
    assert np.array_equal(plain["v.blk.0.ln1.weight"].float32(), packed["v.blk.0.ln1.weight"].float32())
    assert plain["v.blk.0.ffn_down.weight"].shape == (64, 70)
    assert packed["v.blk.0.ffn_down.weight"].shape == (64, 96)
    assert packed["v.blk.0.ffn_down.weight"].type.name == "Q8_0"
