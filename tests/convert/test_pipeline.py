"""Checkpoint to model directory: every number arrives, both layouts agree, faults are named, nothing is left behind."""

import hashlib
import json
import struct

import gguf
import numpy as np
import pytest

from app.common.errors import Cancelled, ConfigError, ConversionError
from app.convert import layouts, synthetic
from app.convert.pipeline import FILES, ModelCard, convert
from app.convert.safetensors import SafetensorsFile
from app.runtime.formats.gguf import GgufFile
from app.runtime.formats.manifest import read_manifest
from app.runtime.formats.model_dir import open_model_directory
from app.runtime.formats.params import NO_TOKEN, AudioParams, TokenIds, VisionParams


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for layout in ("original", "native"):
        synthetic.write_checkpoint(folder / layout, layout=layout, seed=5)
    return folder


@pytest.fixture(scope="module")
def models(checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for layout in ("original", "native"):
        for kind in ("f32", "q8_0"):
            convert(checkpoints / layout, folder / f"{layout}-{kind}", kind)
    return folder


def values(path):
    """All tensors of a GGUF file as float32, by the gguf package's own reader."""
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1]) for t in reader.tensors}


def source(folder, file="model.safetensors"):
    with SafetensorsFile(folder / file) as opened:
        return {name: opened.read_float32(name) for name in opened.tensors}


def test_language_tensors_are_the_checkpoints(checkpoints, models):
    found, given = values(models / "original-f32" / FILES["language"]), source(checkpoints / "original")
    assert len(found) == 2 + 2 + 2 * 6  # embedding and norm, rope factors, six per block
    assert np.array_equal(found["token_embd.weight"], given["model.embed_tokens.weight"])
    assert np.array_equal(found["output_norm.weight"], given["model.norm.weight"])
    prefix = "model.layers.1."
    for name, original in {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_qkv": "self_attn.qkv_proj.base_layer",
        "attn_output": "self_attn.o_proj.base_layer",
        "ffn_up": "mlp.gate_up_proj.base_layer",
        "ffn_down": "mlp.down_proj.base_layer",
    }.items():
        assert np.array_equal(found[f"blk.1.{name}.weight"], given[f"{prefix}{original}.weight"]), name
    assert found["rope_factors_long.weight"].tolist() == np.float32([1 + 0.7 * i for i in range(6)]).tolist()


def test_adapter_tensors_are_the_checkpoints(checkpoints, models):
    given = source(checkpoints / "original")
    for adapter in ("vision", "speech"):
        found = values(models / "original-f32" / FILES[f"{adapter}_adapter"])
        assert len(found) == 2 * 4 * 2
        for factor in "AB":
            name = f"model.layers.0.mlp.gate_up_proj.lora_{factor}.{adapter}.weight"
            assert np.array_equal(found[f"blk.0.ffn_up.weight.lora_{factor.lower()}"], given[name])


def test_vision_tensors_are_the_checkpoints(checkpoints, models):
    found, given = values(models / "original-f32" / FILES["vision_encoder"]), source(checkpoints / "original")
    image = "model.embed_tokens_extend.image_embed."
    layer = image + "img_processor.encoder.layers.1."
    patches = given[image + "img_processor.embeddings.patch_embedding.weight"]
    assert np.array_equal(found["v.patch_embd.weight"], patches.reshape(64, 3 * 14 * 14))
    qkv = np.concatenate([given[f"{layer}self_attn.{part}_proj.weight"] for part in "qkv"])
    assert np.array_equal(found["v.blk.1.attn_qkv.weight"], qkv)
    assert np.array_equal(found["v.blk.1.ffn_down.bias"], given[layer + "mlp.fc2.bias"])
    assert np.array_equal(found["v.sub_separator"], given[image + "sub_GN"].ravel())
    assert np.array_equal(found["v.global_separator"], given[image + "glb_GN"].ravel())
    assert np.array_equal(found["v.proj_down.weight"], given[image + "img_projection.2.weight"])
    assert not any("blk.2" in name for name in found)  # the last layer never runs


def test_audio_tensors_are_the_checkpoints(checkpoints, models):
    found, given = values(models / "original-f32" / FILES["audio_encoder"]), source(checkpoints / "original")
    audio = "model.embed_tokens_extend.audio_embed."
    block = audio + "encoder.encoders.1."
    assert np.array_equal(found["a.mean"], given[audio + "encoder.encoder_embedding.global_mean"])
    assert np.array_equal(found["a.sub.dw2.weight"], given[audio + "encoder.embed.conv.5.weight"])
    assert np.array_equal(found["a.sub.pw2.weight"], given[audio + "encoder.embed.conv.6.weight"][:, :, 0, 0])
    assert np.array_equal(found["a.blk.1.ffn2.up.weight"], given[block + "feed_forward_out.net.0.linear.weight"])
    assert np.array_equal(found["a.blk.1.attn.out.weight"], given[block + "self_attn.linear_out.weight"])
    glu = given[block + "conv.glu.ext_pw_conv_1d.bias"].reshape(2, 64)
    glu = glu + np.stack([given[block + "conv.glu.b1"].ravel(), given[block + "conv.glu.b2"].ravel()])
    assert np.array_equal(found["a.blk.1.conv.glu.bias"], glu.ravel())
    assert np.array_equal(found["a.blk.1.conv.dw.weight"], given[block + "conv.dw_sep_conv_1d.dw_conv.weight"][:, 0])
    assert np.array_equal(found["a.blk.1.conv.pw2.bias"], given[block + "conv.ext_pw_conv_1d.bias"])
    assert np.array_equal(found["a.proj.vision.up.weight"], given[audio + "audio_projection.vision.0.weight"])
    assert np.array_equal(found["a.proj.speech.down.bias"], given[audio + "audio_projection.speech.2.bias"])


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_both_layouts_give_the_same_tensors(models, kind):
    for name in FILES.values():
        with (
            GgufFile(models / f"original-{kind}" / name) as first,
            GgufFile(models / f"native-{kind}" / name) as second,
        ):
            assert list(first) == list(second)
            for tensor in first:
                assert first[tensor].type == second[tensor].type
                assert np.array_equal(first[tensor].data, second[tensor].data), tensor
            assert set(first.metadata) == set(second.metadata)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m"])
def test_the_same_bytes_every_time(checkpoints, tmp_path, kind):
    for attempt in ("one", "two"):
        convert(checkpoints / "native", tmp_path / attempt, kind, card=ModelCard(name="same"))
    for name in (*FILES.values(), "model.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_quantized_values_are_close_and_padding_is_zero(models):
    exact, rough = (values(models / f"native-{kind}" / FILES["vision_encoder"]) for kind in ("f32", "q8_0"))
    assert exact["v.blk.0.ffn_up.weight"].shape == (72, 64)
    assert rough["v.blk.0.ffn_up.weight"].shape == (96, 64)
    assert rough["v.blk.0.ffn_down.weight"].shape == (64, 96)
    assert not rough["v.blk.0.ffn_up.weight"][72:].any()
    assert not rough["v.blk.0.ffn_up.bias"][72:].any()
    assert not rough["v.blk.0.ffn_down.weight"][:, 72:].any()
    error = rough["v.blk.0.ffn_up.weight"][:72] - exact["v.blk.0.ffn_up.weight"]
    assert 0 < np.linalg.norm(error) / np.linalg.norm(exact["v.blk.0.ffn_up.weight"]) < 0.01


def test_quantizer_is_the_reference_quantizer(checkpoints, models):
    given = source(checkpoints / "original")["model.layers.0.mlp.down_proj.base_layer.weight"]
    with GgufFile(models / "original-q8_0" / FILES["language"]) as language:
        stored = language["blk.0.ffn_down.weight"].data
    assert np.array_equal(stored, gguf.quants.quantize(given, gguf.GGMLQuantizationType.Q8_0).ravel())
    audio = "model.embed_tokens_extend.audio_embed.encoder.encoders.0.self_attn.linear_out.weight"
    with GgufFile(models / "original-q8_0" / FILES["audio_encoder"]) as encoder:
        stored = encoder["a.blk.0.attn.out.weight"].data
    given = source(checkpoints / "original")[audio]
    assert np.array_equal(stored, gguf.quants.quantize(given, gguf.GGMLQuantizationType.Q8_0).ravel())


def test_types_per_tensor(models):
    with GgufFile(models / "native-q8_0" / FILES["audio_encoder"]) as encoder:
        exact = {name for name, tensor in encoder.items() if tensor.type.name == "F32"}
        assert all(
            n.endswith(".bias")
            or "norm" in n
            or ".dw" in n
            or n.startswith(("a.mean", "a.inv", "a.rel", "a.sub.conv0"))
            for n in exact
        )
        assert all(tensor.type.name == "Q8_0" for name, tensor in encoder.items() if name not in exact)
    with GgufFile(models / "native-q8_0" / FILES["speech_adapter"]) as adapter:  # rank 20 holds no block of 32
        assert {tensor.type.name for name, tensor in adapter.items() if name.endswith("lora_b")} == {"F16"}
        assert {tensor.type.name for name, tensor in adapter.items() if name.endswith("lora_a")} == {"Q8_0"}


def test_metadata_is_what_the_runtime_reads(models):
    with GgufFile(models / "native-q8_0" / FILES["vision_encoder"]) as file:
        vision = VisionParams.from_metadata(file.metadata, "vision")
        assert (vision.feed_forward_length, vision.block_count, vision.crop_size, vision.max_crops) == (72, 2, 56, 6)
        assert vision.layer_norm_epsilon == 1e-6
    with GgufFile(models / "original-q8_0" / FILES["audio_encoder"]) as file:
        audio = AudioParams.from_metadata(file.metadata, "audio")
        assert (audio.bias_max_distance, audio.block_frames, audio.preemphasis) == (40, 500, 0.97)
        assert audio.projection_length == 96
    with GgufFile(models / "original-q8_0" / FILES["language"]) as file:
        ids = TokenIds.from_metadata(file.metadata, "language")
        tokens = file.metadata["tokenizer.ggml.tokens"]
        assert len(tokens) == 768
        assert tokens[ids.image] == "<|endoftext10|>"
        assert tokens[ids.tool_end] == "<|/tool|>"
        types = file.metadata["tokenizer.ggml.token_type"]
        assert (types[ids.image], types[ids.tool], types[65], types[ids.image + 1]) == (3, 4, 1, 5)
        assert file.metadata["hearsee.stop_token_ids"].tolist() == [ids.end, ids.endoftext]
        assert file.metadata["phi3.rope.scaling.attn_factor"] == pytest.approx(1.1338934, rel=1e-6)


def test_manifest_matches_the_files(models):
    manifest = read_manifest(models / "native-q8_0")
    assert (manifest.name, manifest.quantization) == ("native-q8_0", "q8_0")
    assert manifest.limits.context_tokens == 512
    for entry in manifest.files.values():
        content = (models / "native-q8_0" / entry.path).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert sorted(p.name for p in (models / "native-q8_0").iterdir()) == sorted([*FILES.values(), "model.yaml"])


# ---- what goes wrong


@pytest.fixture
def native(tmp_path):
    synthetic.write_checkpoint(tmp_path / "checkpoint", layout="native")
    return tmp_path / "checkpoint"


def rewrite(path, change):
    """Change the parsed header and the data section of a safetensors file."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    change(header, data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def refused(folder, out, match, error=ConversionError):
    with pytest.raises(error, match=match) as caught:
        convert(folder, out, "q8_0")
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not out.with_name(out.name + ".partial").exists()


def edit_json(path, **changes):
    settings = json.loads(path.read_text())
    for key, value in changes.items():
        settings[key] = value
    path.write_text(json.dumps(settings))


FC1 = "model.embed_tokens_extend.image_embed.img_processor.encoder.layers.0.mlp.fc1.weight"


def test_missing_and_unknown_tensors_are_named(native, tmp_path):
    def rename(header, data):
        header["model.surprise.weight"] = header.pop(FC1)

    rewrite(native / "model.safetensors", rename)
    refused(native, tmp_path / "out", rf"1 tensor\(s\) missing: {FC1}; 1 tensor\(s\) unknown: model.surprise.weight")


def test_misshapen_tensor_is_named(native, tmp_path):
    rewrite(native / "model.safetensors", lambda header, data: header[FC1].update(shape=[64, 72]))
    refused(native, tmp_path / "out", rf"misshapen: {FC1} \[64, 72\] instead of \[72, 64\]")


@pytest.mark.parametrize("bits", [0x7FC0, 0xFF80])  # NaN, minus infinity
def test_tensors_that_are_not_finite_are_named(native, tmp_path, bits):
    def poison(header, data):
        begin = header["model.norm.weight"]["data_offsets"][0]
        data[begin + 6 : begin + 8] = struct.pack("<H", bits)

    rewrite(native / "model.safetensors", poison)
    refused(native, tmp_path / "out", r"NaN or infinite values: model\.norm\.weight")


def test_half_a_pooling_head_is_incomplete(native, tmp_path):
    name = "model.embed_tokens_extend.image_embed.img_processor.head.mlp.fc2.bias"

    def rename(header, data):
        header["other"] = header.pop(name)

    rewrite(native / "model.safetensors", rename)
    refused(native, tmp_path / "out", f"missing: {name}")


def test_cut_off_and_foreign_files(native, tmp_path):
    path = native / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    refused(native, tmp_path / "out", "download it again")
    path.write_bytes(whole[:40])
    refused(native, tmp_path / "out", "cut off")
    path.write_bytes(b"PK\x03\x04" + whole)
    refused(native, tmp_path / "out", "not a safetensors file")
    path.write_bytes(b"")
    refused(native, tmp_path / "out", "cannot be read")
    path.unlink()
    refused(native, tmp_path / "out", "has no model.safetensors")


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"dtype": "I8"}, "has type I8"),
        ({"shape": [1 << 62, 4]}, "do not fit its shape"),
        ({"shape": [-1]}, "malformed"),
        ({"shape": "x"}, "malformed"),
        ({"data_offsets": [0, 1 << 70]}, "malformed"),
        ({"data_offsets": [8, 4]}, "do not fit its shape"),
    ],
)
def test_malformed_header_entries_are_named(native, tmp_path, entry, match):
    rewrite(native / "model.safetensors", lambda header, data: header[FC1].update(entry))
    refused(native, tmp_path / "out", f"fc1.weight.*{match}")


def test_overlapping_tensors_are_refused(native, tmp_path):
    def overlap(header, data):
        first = header["model.layers.0.input_layernorm.weight"]
        header["model.layers.1.input_layernorm.weight"]["data_offsets"] = first["data_offsets"]

    rewrite(native / "model.safetensors", overlap)
    refused(native, tmp_path / "out", "overlaps another or leaves a gap")


def test_missing_adapter_folder(native, tmp_path):
    (native / "speech-lora" / "adapter_model.safetensors").unlink()
    refused(native, tmp_path / "out", r"speech-lora.adapter_model.safetensors is missing")


def test_peft_prefix_is_understood(native, models, tmp_path):
    def add_prefix(header, data):
        for name in [name for name in header if name != "__metadata__"]:
            header["base_model.model." + name] = header.pop(name)

    rewrite(native / "vision-lora" / "adapter_model.safetensors", add_prefix)
    convert(native, tmp_path / "prefixed", "f16")
    synthetic.write_checkpoint(tmp_path / "plain", layout="native")
    convert(tmp_path / "plain", tmp_path / "out", "f16")
    name = FILES["vision_adapter"]
    assert (tmp_path / "prefixed" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_size": 100}, "num_attention_heads"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; only silu"),
        ({"num_hidden_layers": 3}, r"missing: model\.layers\.2"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers is '2'"),
        ({"num_hidden_layers": 1 << 30}, "num_hidden_layers is 1073741824"),
        ({"vocab_size": 1 << 30}, "vocab_size is 1073741824"),
        ({"num_key_value_heads": 4}, "does not divide"),
        ({"head_dim": 24}, "head_dim is 24; only 16"),
        ({"audio_config": []}, "audio_config is not an object"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn'"),
        ({"rope_parameters": {"rope_type": "longrope", "partial_rotary_factor": 0.75}}, "short_factor is missing"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"vocab_size": 700}, "700 rows of the embedding"),
        ({"eos_token_id": "x"}, None),
    ],
)
def test_configuration_faults_are_named(native, tmp_path, changes, match):
    edit_json(native / "config.json", **changes)
    if match is None:  # generation_config.json has the say
        convert(native, tmp_path / "out", "f16")
    else:
        refused(native, tmp_path / "out", match)


def test_config_that_is_not_json(native, tmp_path):
    (native / "config.json").write_text("{")
    refused(native, tmp_path / "out", r"config\.json is not JSON")
    (native / "config.json").unlink()
    refused(native, tmp_path / "out", r"config\.json cannot be read")


def test_missing_special_token_is_named(native, tmp_path):
    path = native / "tokenizer.json"
    path.write_text(path.read_text().replace("<|user|>", "<|human|>"))
    refused(native, tmp_path / "out", r"special tokens <\|user\|>")


def test_a_model_without_tools_and_merges(native, tmp_path):
    """Tokens that only tools need may be missing, and a vocabulary may be bytes alone."""
    settings = json.loads((native / "tokenizer.json").read_text())
    gone = ("<|tool|>", "<|/tool|>", "<|system|>")
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] not in gone]
    settings["model"]["vocab"] = {text: token for text, token in settings["model"]["vocab"].items() if text not in gone}
    settings["model"]["merges"] = []
    (native / "tokenizer.json").write_text(json.dumps(settings))
    convert(native, tmp_path / "out", "q8_0")
    open_model_directory(tmp_path / "out")
    with GgufFile(tmp_path / "out" / FILES["language"]) as file:
        ids = TokenIds.from_metadata(file.metadata, "language")
        assert (ids.tool, ids.tool_end, ids.system) == (NO_TOKEN, NO_TOKEN, NO_TOKEN)
        assert file.metadata["tokenizer.ggml.tokens"][ids.user] == "<|user|>"


def test_unknown_type(native, tmp_path):
    with pytest.raises(ConfigError, match="'q3_x' is not a type of model"):
        convert(native, tmp_path / "out", "q3_x")


def test_existing_output_is_never_overwritten_by_accident(native, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(ConversionError, match="exists and is not empty"):
            convert(native, out, "f16", force=force)
    assert (out / "thesis.txt").read_text() == "mine"
    model = tmp_path / "model"
    convert(native, model, "f16")
    with pytest.raises(ConversionError, match="use --force"):
        convert(native, model, "q8_0")
    assert convert(native, model, "q8_0", force=True).quantization == "q8_0"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model", "out"]


def test_leftover_of_a_killed_conversion_is_replaced_but_nothing_else(native, tmp_path):
    leftover = tmp_path / "out.partial"
    leftover.mkdir()
    (leftover / "language-full.tmp").write_bytes(b"half")
    convert(native, tmp_path / "out", "f16")
    assert not leftover.exists()
    leftover.mkdir()
    (leftover / "diary.txt").write_text("mine")
    with pytest.raises(ConversionError, match="in the way"):
        convert(native, tmp_path / "out", "f16", force=True)
    assert (leftover / "diary.txt").exists()


def test_progress_and_cancel(native, tmp_path):
    stages = {}
    convert(
        native, tmp_path / "out", "q8_0", lambda stage, done, total: stages.setdefault(stage, []).append((done, total))
    )
    assert {"check", "vision-encoder.gguf", "language-full.tmp", "quantize"} <= stages.keys()
    for steps in stages.values():
        assert steps[-1][0] == steps[-1][1]
        assert steps == sorted(steps)

    def stop(stage, done, total):
        if stage == "audio-encoder.gguf":
            raise Cancelled

    with pytest.raises(Cancelled):
        convert(native, tmp_path / "stopped", "q8_0", stop)
    assert not list(tmp_path.glob("stopped*"))


def test_layout_of_neither_kind(tmp_path):
    (tmp_path / "x").mkdir()
    refused(tmp_path / "x", tmp_path / "out", "has no model.safetensors")
    refused(tmp_path / "nowhere", tmp_path / "out", "is not a folder")
    assert layouts.detect(["model.embed_tokens.weight"]) == "native"
