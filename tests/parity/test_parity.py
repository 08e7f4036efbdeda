"""The runtime against the full-precision reference, on every path of the model.

The bounds are promises of docs/fidelity.md. Random weights are the hardest case for quantization: their errors do not
cancel as a trained model's do.
"""

import pytest

from app.runtime.events import SessionOptions
from app.validation.compare import case_distances, figures
from app.validation.recording import read_recording
from app.validation.run import run_suite
from tests.golden.specs import GOLDENS

EXACT = 1e-3
# type: (embeddings, logits), relative L2 pooled over a suite
BOUNDS = {
    "f16": (1.5e-3, 2.5e-3),
    "bf16": (1e-2, 1.5e-2),
    "q8_0": (2e-2, 4e-2),
    "q4_0": (2.5e-1, 4e-1),
    "q4_k_m": (2e-2, 3e-1),
}


def distances(converted, golden, tmp_path, name, kind, **options):
    _, suite, reference = golden(name)
    run_suite(converted(name, kind), suite, tmp_path / "run.npz", device="cpu", n_threads=1, **options)
    return case_distances(read_recording(tmp_path / "run.npz"), read_recording(reference))


@pytest.mark.parametrize("name", GOLDENS)
def test_f32_files_give_the_reference_in_every_case(converted, golden, tmp_path, name):
    found = distances(converted, golden, tmp_path, name, "f32")
    wrong_ids = [case.case for case in found if not case.tokens_equal]
    assert not wrong_ids
    worst = {
        (case.case, array): case.relative_l2(array)
        for case in found
        for array in case.squares
        if case.relative_l2(array) > EXACT
    }
    assert not worst
    assert {case.mode for case in found} == {"text", "speech", "vision", "vision_speech"}


@pytest.mark.parametrize(
    "options",
    [SessionOptions(reuse=False, chunk_tokens=37), SessionOptions(chunk_tokens=1000, max_contexts=1)],
    ids=["no reuse, odd chunks", "one context, wide chunks"],
)
def test_reuse_and_chunks_change_nothing(converted, golden, tmp_path, options):
    found = distances(converted, golden, tmp_path, "odd_native", "f32", options=options)
    assert max(case.relative_l2("logits") for case in found) <= EXACT
    assert all(case.tokens_equal for case in found)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_fast_setting_stays_exact_to_a_thousandth(converted, golden, tmp_path, name):
    found = figures(distances(converted, golden, tmp_path, name, "f32", fast=True))
    assert found["tokens_equal"] == 1.0
    assert found["logits_relative_l2"] <= EXACT


@pytest.mark.parametrize("kind", BOUNDS)
def test_smaller_types_stay_within_their_bounds(converted, golden, tmp_path, kind):
    found = figures(distances(converted, golden, tmp_path, "wide_native", kind))
    embeddings, logits = BOUNDS[kind]
    assert found["tokens_equal"] == 1.0
    assert found["image_embeddings_relative_l2"] <= embeddings
    assert found["audio_embeddings_relative_l2"] <= embeddings
    assert found["logits_relative_l2"] <= logits


@pytest.mark.parametrize("name", ["odd_native", "small_original"])
def test_odd_widths_can_be_quantized(converted, golden, tmp_path, name):
    found = figures(distances(converted, golden, tmp_path, name, "q8_0"))
    assert found["tokens_equal"] == 1.0
    assert found["logits_relative_l2"] <= BOUNDS["q8_0"][1]
