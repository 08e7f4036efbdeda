"""Random checkpoints: complete, equal in both layouts, readable by others."""

import json
from math import prod

import numpy as np
import pytest
import safetensors
from tokenizers import Tokenizer

from app.convert import layouts, synthetic
from app.convert.expected import expected_tensors, pooling_head_tensors
from app.convert.safetensors import SafetensorsFile


def test_published_sizes_give_the_published_counts():
    config = synthetic.published()
    tensors = expected_tensors(config) | pooling_head_tensors(config.vision)
    assert len(tensors) == 2047
    assert sum(map(prod, tensors.values())) == 5_574_460_384


def test_names_map_both_ways():
    config = synthetic.published()
    names = list(expected_tensors(config) | pooling_head_tensors(config.vision))
    originals = [layouts.to_original(name) for name in names]
    assert len(set(originals)) == len(names)
    assert [layouts.from_original(name) for name in originals] == names
    assert "model.embed_tokens_extend.audio_embed.audio_projection.vision.2.bias" in originals
    assert "model.embed_tokens_extend.audio_embed.encoder.encoders.23.self_attn.linear_out.weight" in originals
    assert "model.embed_tokens_extend.audio_embed.encoder.encoders.0.feed_forward_in.net.0.linear.bias" in originals
    assert "model.embed_tokens_extend.image_embed.img_processor.encoder.layers.26.self_attn.q_proj.bias" in originals
    assert "model.layers.31.mlp.gate_up_proj.base_layer.weight" in originals
    assert "model.layers.31.mlp.gate_up_proj.lora_B.speech.weight" in originals


def read_all(folder):
    tensors = {}
    for path in sorted(folder.rglob("*.safetensors")):
        adapter = path.parent.name.removesuffix("-lora") + ":" if path.parent != folder else ""
        with SafetensorsFile(path) as file:
            tensors |= {adapter + name: file.read_float32(name) for name in file.tensors}
    return tensors


def test_both_layouts_hold_the_same_numbers(tmp_path):
    synthetic.write_checkpoint(tmp_path / "original", layout="original", seed=3, shard_bytes=200_000)
    synthetic.write_checkpoint(tmp_path / "native", layout="native", seed=3)
    assert len(list((tmp_path / "original").glob("model-*-of-*.safetensors"))) > 3
    original = {layouts.from_original(name): values for name, values in read_all(tmp_path / "original").items()}
    native = read_all(tmp_path / "native")
    assert original.keys() == native.keys()
    assert all(np.array_equal(original[name], native[name]) for name in native)


def test_another_seed_is_another_model(tmp_path):
    for seed in (0, 1):
        synthetic.write_checkpoint(tmp_path / str(seed), seed=seed)
    first, second = read_all(tmp_path / "0"), read_all(tmp_path / "1")
    assert not any(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_safetensors_library_reads_what_we_write(tmp_path, dtype):
    synthetic.write_checkpoint(tmp_path, dtype=dtype)
    path = tmp_path / "model.safetensors"
    with SafetensorsFile(path) as ours:
        theirs = dict(safetensors.deserialize(path.read_bytes()))
        assert theirs.keys() == ours.tensors.keys()
        for name, info in ours.tensors.items():
            assert (theirs[name]["dtype"], tuple(theirs[name]["shape"])) == (dtype, info.shape)


def test_bfloat16_is_rounded_to_nearest():
    from app.convert.safetensors import to_stored

    values = np.array([1.0, 1.00390625, 1.01171875, -3.1415927], np.float32)  # two ties: to even
    assert to_stored(values, "BF16").tolist() == [0x3F80, 0x3F80, 0x3F82, 0xC049]


def test_tokenizer_knows_its_special_tokens(tmp_path):
    config = synthetic.write_checkpoint(tmp_path, layout="native")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.token_to_id("<|image|>") == config.image_token_id
    assert tokenizer.token_to_id("<|endoftext|>") == config.eos_token_ids[1]
    text = "Où est-ce 123?\n\nIt's Ünïcode…"
    ids = tokenizer.encode(f"<|user|> {text}<|end|>").ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert max(ids) < config.language.vocab_size
    stated = json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"]
    assert stated == list(config.eos_token_ids)
