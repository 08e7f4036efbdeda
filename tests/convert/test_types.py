"""The type each tensor gets, at widths that suit it and widths that do not; the same bytes on any number of threads."""

from dataclasses import replace

import numpy as np
import pytest

from app.convert import synthetic
from app.convert.encode import encode
from app.convert.pipeline import FILES, convert
from app.convert.quantize import quantize_language
from app.convert.types import CONVERSION_TYPES, matrix_type
from app.runtime.ffi.quantize import GGML_TYPE_COUNT, llama_model_quantize_default_params
from app.runtime.formats.ggml_types import GgmlType
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.model_dir import open_model_directory


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def with_width(width, heads, feed_forward):
    config = synthetic.tiny()
    language = replace(
        config.language,
        embedding_length=width,
        head_count=heads,
        head_count_kv=heads,
        head_length=width // heads,
        feed_forward_length=feed_forward,
    )
    return replace(config, language=language)


@pytest.mark.parametrize("kind", sorted(CONVERSION_TYPES))
@pytest.mark.parametrize(("width", "heads", "feed_forward"), [(60, 5, 76), (96, 6, 160), (256, 16, 512)])
def test_every_type_at_every_width(tmp_path, kind, width, heads, feed_forward):
    """Widths of 60 hold no block at all, 96 blocks of 32, 256 the k-quants' too."""
    synthetic.write_checkpoint(tmp_path / "checkpoint", with_width(width, heads, feed_forward))
    convert(tmp_path / "checkpoint", tmp_path / "out", kind)
    assert open_model_directory(tmp_path / "out").quantization == kind
    with GgufFile(tmp_path / "out" / FILES["language"]) as language:
        types = {tensor.type for tensor in language.values() if len(tensor.shape) == 2}
    if CONVERSION_TYPES[kind].is_quantized and width == 60:
        assert types == {GgmlType.F16}
    elif kind in ("f32", "f16", "bf16", "q8_0"):
        assert types == {GgmlType[kind.upper()]}
    elif width == 256:
        assert {"q4_k_m": GgmlType.Q4_K, "q5_k_m": GgmlType.Q5_K, "q6_k": GgmlType.Q6_K, "q4_0": GgmlType.Q4_0}[
            kind
        ] in types
    else:
        assert GgmlType.F16 not in types


def test_threads_do_not_change_the_bytes(tmp_path):
    synthetic.write_checkpoint(tmp_path / "checkpoint", with_width(256, 16, 1024))
    convert(tmp_path / "checkpoint", tmp_path / "full", "bf16")
    for n_threads in (1, 2, 5):
        quantize_language(tmp_path / "full" / FILES["language"], tmp_path / str(n_threads), 15, n_threads)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "5").read_bytes()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_values_kept_exactly_by_a_wider_type_quantize_alike(tmp_path, dtype):
    """The temporary full-precision file loses nothing: quantizing from it or from F32 is the same."""
    synthetic.write_checkpoint(tmp_path / "checkpoint", dtype=dtype)
    convert(tmp_path / "checkpoint", tmp_path / "out", "q8_0")
    convert(tmp_path / "checkpoint", tmp_path / "exact", "f32")
    quantize_language(tmp_path / "exact" / FILES["language"], tmp_path / "again", 7)
    with GgufFile(tmp_path / "again") as again, GgufFile(tmp_path / "out" / FILES["language"]) as direct:
        assert list(again) == list(direct)
        assert all(np.array_equal(again[name].data, direct[name].data) for name in again)


def test_fall_backs():
    assert matrix_type(GgmlType.Q8_0, 64, 1.0) is GgmlType.Q8_0
    assert matrix_type(GgmlType.Q8_0, 60, 1.0) is GgmlType.F16
    assert matrix_type(GgmlType.Q8_0, 60, 70000.0) is GgmlType.F32
    assert matrix_type(GgmlType.F16, 60, 70000.0) is GgmlType.F32
    assert matrix_type(GgmlType.BF16, 60, 70000.0) is GgmlType.BF16


def test_values_too_large_for_half_precision_stay_exact(tmp_path):
    class Loud(synthetic.RandomTensors):
        def __call__(self, name, shape):
            values = super().__call__(name, shape)
            return values * np.float32(1e6) if name.endswith("layers.1.mlp.down_proj.weight") else values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "RandomTensors", Loud)
        synthetic.write_checkpoint(tmp_path / "checkpoint", dtype="F32")
    convert(tmp_path / "checkpoint", tmp_path / "out", "f16")
    with GgufFile(tmp_path / "out" / FILES["language"]) as language:
        assert language["blk.1.ffn_down.weight"].type is GgmlType.F32
        assert language["blk.0.ffn_down.weight"].type is GgmlType.F16


def test_block_types_round_to_their_grid():
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    assert encode(values, GgmlType.Q4_0).nbytes == 2 * 18
    assert encode(values, GgmlType.F16).view(np.float16) == pytest.approx(values.ravel(), abs=1e-3)


def test_a_fresh_choice_is_left_to_the_recipe():
    params = llama_model_quantize_default_params()
    assert (params.output_tensor_type, params.token_embedding_type) == (GGML_TYPE_COUNT, GGML_TYPE_COUNT)
