"""A model directory as a whole: damage, wrong checksums and foreign files, one line each."""

import hashlib
import os
import shutil
from dataclasses import replace

import gguf
import numpy as np
import pytest

from app.common.errors import ModelFormatError
from app.convert import synthetic
from app.convert.pipeline import convert
from app.runtime.formats import checksum
from app.runtime.formats.manifest import read_manifest
from app.runtime.formats.model_dir import open_model_directory, verify_model_directory


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    synthetic.write_checkpoint(folder / "checkpoint")
    convert(folder / "checkpoint", folder / "tiny", "q8_0")
    other = synthetic.tiny()
    other = replace(other, language=replace(other.language, embedding_length=64, head_count=4))
    synthetic.write_checkpoint(folder / "other-checkpoint", other)
    convert(folder / "other-checkpoint", folder / "other", "q8_0")
    return folder


@pytest.fixture
def model(originals, tmp_path):
    shutil.copytree(originals / "tiny", tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return tmp_path / "model"


def restate(model, role):
    """Make the manifest agree with a changed file, as whoever swaps files might."""
    manifest = read_manifest(model)
    content = (model / manifest.files[role].path).read_bytes()
    entry = replace(manifest.files[role], bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (model / "model.yaml").write_text(replace(manifest, files={**manifest.files, role: entry}).to_yaml())


def refused(model, message):
    for check in (open_model_directory, verify_model_directory):
        with pytest.raises(ModelFormatError, match=message) as error:
            check(model)
        assert "\n" not in str(error.value)
        assert str(model) in str(error.value)


def test_whole_directory(model):
    assert open_model_directory(model) == verify_model_directory(model) == read_manifest(model)


@pytest.mark.parametrize("name", ["language.gguf", "audio-encoder.gguf", "speech-adapter.gguf"])
def test_missing_cut_and_flipped_files(model, name):
    path = model / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    refused(model, f"{name} has {len(content) - 1} bytes instead of {len(content)}")
    flipped = bytearray(content)
    flipped[-40] ^= 4
    path.write_bytes(flipped)
    refused(model, f"{name} is damaged: its sha256")
    path.unlink()
    refused(model, f"{name}: No such file")


def test_files_are_hashed_once(model, monkeypatch):
    hashed = []
    real = checksum.sha256_of
    monkeypatch.setattr(
        checksum, "sha256_of", lambda path, progress=None: hashed.append(path.name) or real(path, progress)
    )
    open_model_directory(model)
    assert len(hashed) == 5
    open_model_directory(model)
    assert len(hashed) == 5
    path = model / "vision-encoder.gguf"
    os.utime(path, ns=(1, 1))
    open_model_directory(model)
    assert hashed[5:] == ["vision-encoder.gguf"]
    verify_model_directory(model)
    assert len(hashed) == 11


def test_a_file_of_this_moment_is_not_taken_for_unchanged(model, monkeypatch):
    path = model / "vision-encoder.gguf"
    monkeypatch.setattr(checksum.time, "time_ns", lambda: 10**18 + 1000)
    open_model_directory(model)
    flipped = bytearray(path.read_bytes())
    flipped[-40] ^= 4
    path.write_bytes(flipped)
    os.utime(path, ns=(10**18, 10**18))
    refused(model, "vision-encoder.gguf is damaged: its sha256")


def test_a_fresh_conversion_is_not_hashed_again(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(checksum, "_CLOCK_STEP_NS", 0)
    convert(originals / "checkpoint", tmp_path / "fresh", "q8_0")
    monkeypatch.setattr(checksum, "sha256_of", lambda *_: pytest.fail("read again"))
    open_model_directory(tmp_path / "fresh")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "[" * 100000])
def test_a_broken_cache_only_costs_time(model, tmp_path, text):
    cache = tmp_path / "cache" / "hearsee" / "verified-files.json"
    cache.parent.mkdir(parents=True)
    cache.write_text(text)
    open_model_directory(model)
    assert str(model / "language.gguf") in cache.read_text()


def test_a_cache_that_cannot_be_written_only_costs_time(model, tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    open_model_directory(model)


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("vision_adapter", "vision-adapter.gguf was made for another model"),
        ("vision_encoder", "vision-encoder.gguf gives rows of 64 values, language.gguf takes 96"),
        ("audio_encoder", "audio-encoder.gguf gives rows of 64 values, language.gguf takes 96"),
        ("language", "made for another model|gives rows"),
    ],
)
def test_files_of_another_model(originals, model, role, message):
    name = read_manifest(model).files[role].path
    shutil.copyfile(originals / "other" / name, model / name)
    restate(model, role)
    refused(model, message)


@pytest.mark.parametrize(
    ("role", "other", "message"),
    [
        ("vision_adapter", "speech_adapter", "is the speech adapter where the vision adapter is needed"),
        ("vision_encoder", "audio_encoder", "architecture is 'phi4mm-audio', phi4mm-vision is needed"),
        ("speech_adapter", "language", "is not an adapter"),
        ("language", "speech_adapter", "metadata key 'adapter.type' is not known"),
    ],
)
def test_files_in_the_wrong_role(model, role, other, message):
    manifest = read_manifest(model)
    shutil.copyfile(model / manifest.files[other].path, model / manifest.files[role].path)
    restate(model, role)
    refused(model, message)


def rewritten(model, role, *, metadata=None, drop=(), rename=None, extra=None, retype=None):
    """Write a file again by the gguf package, with other metadata or without some tensors."""
    path = model / read_manifest(model).files[role].path
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(path.with_suffix(".new"), reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        value = (metadata or {}).get(field.name, field.contents())
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    if extra:
        writer.add_uint32(extra, 2)
    for tensor in reader.tensors:
        if tensor.name not in drop:
            name = (rename or {}).get(tensor.name, tensor.name)
            if dtype := (retype or {}).get(name):
                writer.add_tensor(name, np.array(tensor.data).astype(dtype))
            else:
                writer.add_tensor(name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    del reader
    path.with_suffix(".new").replace(path)
    restate(model, role)


def test_rewriting_itself_changes_nothing(model):
    rewritten(model, "language")
    rewritten(model, "speech_adapter")
    open_model_directory(model)


@pytest.mark.parametrize(
    ("role", "metadata", "message"),
    [
        ("language", {"general.architecture": "x", "hearsee.format_version": 2}, "format version 2"),
        ("language", {"phi3.attention.head_count": 0}, "phi3.attention.head_count has the impossible value 0"),
        ("language", {"phi3.attention.head_count_kv": 4}, "head_count_kv has the impossible value 4"),
        ("language", {"phi3.block_count": 4_000_000_000}, "block_count has the impossible value"),
        ("language", {"phi3.block_count": 1 << 20}, "block_count has the impossible value"),
        ("language", {"phi3.block_count": 3}, r"blk\.2\.attn_norm\.weight is missing"),
        (
            "language",
            {"phi3.feed_forward_length": 128},
            r"ffn_up\.weight is of shape \(320, 96\) instead of \(256, 96\)",
        ),
        ("language", {"phi3.rope.dimension_count": 34}, "rope.dimension_count has the impossible value 34"),
        ("language", {"phi3.rope.freq_base": float("nan")}, "rope.freq_base has the impossible value nan"),
        ("language", {"hearsee.token.user": 768}, "hearsee.token.user lie outside the vocabulary"),
        ("language", {"tokenizer.ggml.eot_token_id": 9000}, "eot_token_id lie outside the vocabulary"),
        ("language", {"tokenizer.ggml.token_type": [1] * 767}, "token_type does not hold 768 whole numbers"),
        ("language", {"tokenizer.ggml.tokens": ["a"] * 768}, "tokens does not hold 768 different texts"),
        ("language", {"tokenizer.ggml.merges": ["a b", " c"]}, "merges does not hold pairs"),
        ("language", {"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model is not gpt2"),
        ("language", {"tokenizer.ggml.pre": "a" * 9999}, "tokenizer.ggml.pre is not gpt-4o"),
        ("speech_adapter", {"adapter.lora.alpha": 0.0}, r"adapter\.lora\.alpha is 0\.0"),
        ("vision_encoder", {"phi4mm.vision.head_count": 5}, "heads do not divide"),
        ("vision_encoder", {"phi4mm.vision.crop_size": 50}, "whole 2x2 patch cells"),
        ("audio_encoder", {"phi4mm.audio.block_frames": 0}, "an audio size is zero"),
        ("audio_encoder", {"phi4mm.audio.preemphasis": float("inf")}, "preemphasis has the impossible value"),
    ],
)
def test_impossible_metadata_is_named(model, role, metadata, message):
    rewritten(model, role, metadata=metadata)
    refused(model, message)


@pytest.mark.parametrize("key", ["phi3.expert_count", "split.count", "tokenizer.ggml.scores", "quantize.x" * 50])
def test_keys_that_would_make_it_another_model(model, key):
    rewritten(model, "language", extra=key)
    refused(model, f"metadata key '{key[:80]}' is not known")


@pytest.mark.parametrize(
    ("role", "name", "dtype"),
    [
        ("language", "output_norm.weight", np.float16),
        ("language", "rope_factors_long.weight", np.int32),
        ("language", "blk.0.attn_norm.weight", np.float64),
    ],
)
def test_vectors_of_another_type(model, role, name, dtype):
    rewritten(model, role, retype={name: dtype})
    refused(model, f"tensor {name} has the unusable type")


def test_matrices_of_whole_numbers(originals, model):
    convert(originals / "checkpoint", model, "f32", force=True)
    rewritten(model, "language", retype={"blk.0.ffn_up.weight": np.int32})
    refused(model, r"blk\.0\.ffn_up\.weight has the unusable type I32")
    convert(originals / "checkpoint", model, "f32", force=True)
    rewritten(model, "speech_adapter", retype={"blk.0.ffn_up.weight.lora_a": np.int8})
    refused(model, r"blk\.0\.ffn_up\.weight\.lora_a has the unusable type I8")


def test_missing_tensors_are_named(model):
    rewritten(model, "language", drop=("blk.1.ffn_down.weight",))
    refused(model, r"blk\.1\.ffn_down\.weight is missing")


def test_half_an_adapter(model):
    rewritten(model, "vision_adapter", drop=("blk.1.ffn_down.weight.lora_b",))
    refused(model, r"blk\.1\.ffn_down\.weight lacks one of its two factors")


def test_adapter_of_a_tensor_that_is_not_there(model):
    names = {f"blk.0.attn_qkv.weight.lora_{factor}": f"blk.7.attn_qkv.weight.lora_{factor}" for factor in "ab"}
    rewritten(model, "vision_adapter", rename=names)
    refused(model, "was made for another model: blk.7.attn_qkv.weight")
