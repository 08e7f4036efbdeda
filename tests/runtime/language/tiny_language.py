"""A tiny random phi3 model with a real byte-level tokenizer, odd ids and a short original context."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from app.runtime.formats.params import TokenIds

if TYPE_CHECKING:
    from pathlib import Path

N_VOCAB, N_EMBD, N_FF, N_LAYER, N_HEAD, N_KV, N_ROT = 400, 64, 96, 2, 4, 2, 12
ORIGINAL_TOKENS, CONTEXT_TOKENS = 96, 700
TOKEN_IDS = TokenIds(
    endoftext=380, image=381, audio=383, assistant=385, end=386, user=388, system=389, tool=391, tool_end=393
)
_NAMES = [field.name for field in fields(TokenIds)]
_TEXTS = [
    "the quick brown fox jumps over the lazy dog, naïve café 😀 in 2024!",
    "what is this picture about? 日本語",
] * 3


def tokenizer_json() -> str:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(_TEXTS, trainers.BpeTrainer(vocab_size=370, initial_alphabet=alphabet))
    parsed = json.loads(tokenizer.to_str())
    parsed["added_tokens"] = [
        {"id": id_, "content": f"<|{name}|>", "special": name not in ("tool", "tool_end"), "rstrip": True,
         "single_word": False, "lstrip": False, "normalized": False}
        for name, id_ in zip(_NAMES, _ids(), strict=True)
    ]  # fmt: skip
    return json.dumps(parsed)


def _ids() -> list[int]:
    return [getattr(TOKEN_IDS, name) for name in _NAMES]


def write_language(path: Path, seed: int = 0, **changes) -> Path:
    """Write language.gguf; ``changes`` replace or (None) drop metadata keys."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "phi3")
    metadata = {
        "phi3.context_length": CONTEXT_TOKENS,
        "phi3.embedding_length": N_EMBD,
        "phi3.feed_forward_length": N_FF,
        "phi3.block_count": N_LAYER,
        "phi3.attention.head_count": N_HEAD,
        "phi3.attention.head_count_kv": N_KV,
        "phi3.rope.dimension_count": N_ROT,
        "phi3.rope.scaling.original_context_length": ORIGINAL_TOKENS,
        "phi3.attention.sliding_window": 0,
        "hearsee.format_version": 1,
        **TOKEN_IDS.to_metadata(),
        **changes,
    }
    for key, value in metadata.items():
        if value is not None:
            writer.add_uint32(key, value)
    writer.add_float32("phi3.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("phi3.rope.freq_base", 10000.0)
    writer.add_float32("phi3.rope.scaling.attn_factor", 1.19)
    _add_vocabulary(writer)
    _add_tensors(writer, rng)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    text = tokenizer_json()
    parsed = json.loads(text)
    tokens = [f"[PAD{i}]" for i in range(N_VOCAB)]
    types = [5] * N_VOCAB
    for token, index in parsed["model"]["vocab"].items():
        tokens[index], types[index] = token, 1
    for added in parsed["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], 3
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in parsed["model"]["merges"]])
    writer.add_eos_token_id(TOKEN_IDS.endoftext)
    writer.add_eot_token_id(TOKEN_IDS.end)
    writer.add_string("tokenizer.huggingface.json", text)


def _add_tensors(writer: gguf.GGUFWriter, rng: np.random.Generator) -> None:
    def add(name: str, *shape: int, spread: float = 0.5) -> None:
        scale = spread / np.sqrt(shape[-1]) if len(shape) > 1 else spread
        values = rng.standard_normal(shape) * scale + (len(shape) == 1)
        writer.add_tensor(name, values.astype(np.float32))

    head = N_EMBD // N_HEAD
    add("token_embd.weight", N_VOCAB, N_EMBD, spread=8.0)
    add("output_norm.weight", N_EMBD, spread=0.1)
    writer.add_tensor("rope_factors_short.weight", np.ones(N_ROT // 2, np.float32))
    writer.add_tensor("rope_factors_long.weight", np.linspace(1, 9, N_ROT // 2, dtype=np.float32))
    for layer in range(N_LAYER):
        add(f"blk.{layer}.attn_norm.weight", N_EMBD, spread=0.1)
        add(f"blk.{layer}.attn_qkv.weight", (N_HEAD + 2 * N_KV) * head, N_EMBD, spread=2.0)
        add(f"blk.{layer}.attn_output.weight", N_EMBD, N_EMBD)
        add(f"blk.{layer}.ffn_norm.weight", N_EMBD, spread=0.1)
        add(f"blk.{layer}.ffn_up.weight", 2 * N_FF, N_EMBD)
        add(f"blk.{layer}.ffn_down.weight", N_EMBD, N_FF)


def write_adapter(path: Path, seed: int, rank: int = 8) -> Path:
    rng = np.random.default_rng(seed)
    head = N_EMBD // N_HEAD
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0 * rank)
    shapes = {"attn_qkv": ((N_HEAD + 2 * N_KV) * head, N_EMBD), "attn_output": (N_EMBD, N_EMBD),
              "ffn_up": (2 * N_FF, N_EMBD), "ffn_down": (N_EMBD, N_FF)}  # fmt: skip
    for layer in range(N_LAYER):
        for name, (rows, columns) in shapes.items():
            a = rng.standard_normal((rank, columns)) / np.sqrt(columns)
            b = rng.standard_normal((rows, rank)) / np.sqrt(rank) * 0.3
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_a", a.astype(np.float32))
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_b", b.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
