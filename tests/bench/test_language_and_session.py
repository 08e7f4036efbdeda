"""The benches run on a tiny model and give every figure they promise; how large a figure is, is not tested."""

from __future__ import annotations

import math

import pytest

from app.bench import language, session
from app.convert.pipeline import convert
from app.convert.synthetic import write_checkpoint

LANGUAGE_FIGURES = {
    "decode_vs_bare_loop", "decode_vs_high_level_api", "decode_vs_memory_bandwidth", "python_ms_per_token",
    "vision_adapter_decode_cost", "speech_adapter_decode_cost", "prefill_tokens_per_s", "decode_tokens_per_s",
}  # fmt: skip
SESSION_FIGURES = {
    "follow_up_vs_new_tokens_only", "first_token_after_hard_end_p50_ms", "first_token_after_hard_end_p90_ms",
    "hidden_share", "key_release_to_first_token_p50_ms", "first_token_warm_ms", "first_token_cold_ms",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_checkpoint(folder / "checkpoint")
    convert(folder / "checkpoint", folder / "model", "f16")
    return folder / "model"


def test_the_session_bench_gives_its_figures(tiny_model):
    said = []
    figures = session.measure(tiny_model, say=said.append, n_rounds=2, n_threads=1)
    assert set(figures) >= SESSION_FIGURES
    assert all(map(math.isfinite, figures.values()))
    assert figures["first_token_cold_ms"] > 0
    assert figures["follow_up_vs_new_tokens_only"] > 0
    assert said


def test_the_language_bench_gives_its_figures(tiny_model, monkeypatch):
    monkeypatch.setattr(language, "_BANDWIDTH_BYTES", 1 << 20)
    monkeypatch.setattr(language, "_CONTEXT_TOKENS", 512)
    monkeypatch.setattr(language, "_PREFILL_TOKENS", 100)
    figures = language.measure(tiny_model, say=lambda line: None, n_tokens=4, n_rounds=1, n_threads=1)
    assert set(figures) >= LANGUAGE_FIGURES
    assert all(map(math.isfinite, figures.values()))
    assert figures["python_ms_per_token"] > 0
