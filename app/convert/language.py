"""The language model and its adapters as llama.cpp files of architecture ``phi3`` (phi4mm 7.1, 7.2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from app.convert.config import ADAPTER_NAMES
from app.convert.expected import EMBEDDING, LM_HEAD, adapted_matrices
from app.convert.gguf_writer import PlannedTensor, whole
from app.convert.types import matrix_type
from app.runtime.formats.ggml_types import GgmlType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.convert.checkpoint import Checkpoint
    from app.convert.config import AdapterName, LanguageConfig
    from app.convert.tokens import TokenizerData

ARCHITECTURE = "phi3"
STOP_IDS_KEY = "hearsee.stop_token_ids"
_MATRICES = {"qkv_proj": "attn_qkv", "o_proj": "attn_output", "gate_up_proj": "ffn_up", "down_proj": "ffn_down"}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def language_metadata(config: LanguageConfig, tokenizer: TokenizerData, file_type: int) -> dict[str, Any]:
    """Metadata of ``language.gguf``; llama.cpp reads floats as float32."""
    rope, prefix = config.rope, ARCHITECTURE + "."
    return {
        "general.type": "model",
        "general.file_type": file_type,
        prefix + "context_length": config.context_length,
        prefix + "rope.scaling.original_context_length": min(rope.original_length, config.context_length),
        prefix + "embedding_length": config.embedding_length,
        prefix + "feed_forward_length": config.feed_forward_length,
        prefix + "block_count": config.block_count,
        prefix + "attention.head_count": config.head_count,
        prefix + "attention.head_count_kv": config.head_count_kv,
        prefix + "attention.key_length": config.head_length,
        prefix + "attention.value_length": config.head_length,
        prefix + "attention.layer_norm_rms_epsilon": np.float32(config.rms_norm_epsilon),
        prefix + "attention.sliding_window": 0,
        prefix + "rope.dimension_count": rope.dimensions,
        prefix + "rope.freq_base": np.float32(rope.theta),
        prefix + "rope.scaling.attn_factor": np.float32(rope.attention_factor),
        prefix + "vocab_size": config.vocab_size,
        **_tokenizer_metadata(tokenizer),
    }


def _tokenizer_metadata(tokenizer: TokenizerData) -> dict[str, Any]:
    ids = tokenizer.ids
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-4o",
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": np.array(tokenizer.types, np.int32),
        "tokenizer.ggml.merges": tokenizer.merges,
        "tokenizer.ggml.bos_token_id": ids.endoftext,
        "tokenizer.ggml.eos_token_id": ids.endoftext,
        "tokenizer.ggml.eot_token_id": ids.end,
        "tokenizer.ggml.padding_token_id": ids.endoftext,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.huggingface.json": tokenizer.json_text,
        **ids.to_metadata(),
        STOP_IDS_KEY: np.array(tokenizer.stop_ids, np.int32),
    }


def language_tensors(checkpoint: Checkpoint, wanted: GgmlType, magnitudes: Mapping[str, float]) -> list[PlannedTensor]:
    """Every tensor of ``language.gguf``, matrices in ``wanted`` where their values fit it."""
    config = checkpoint.config.language
    planned = [_matrix(checkpoint, "token_embd.weight", EMBEDDING, wanted, magnitudes)]
    planned.append(_vector(checkpoint, "output_norm.weight", "model.norm.weight"))
    if not config.tied:
        planned.append(_matrix(checkpoint, "output.weight", LM_HEAD, wanted, magnitudes))
    planned.extend(_rope_factors(config))
    for block in range(config.block_count):
        for source, target in _NORMS.items():
            planned.append(_vector(checkpoint, f"blk.{block}.{target}.weight", f"model.layers.{block}.{source}.weight"))
        for source in adapted_matrices(config, block):
            name = _block_name(source, block)
            planned.append(_matrix(checkpoint, name, source + ".weight", wanted, magnitudes))
    return planned


def _rope_factors(config: LanguageConfig) -> Iterator[PlannedTensor]:
    for kind, factors in (("long", config.rope.long_factors), ("short", config.rope.short_factors)):
        if factors is not None:
            values = np.array(factors, np.float32)
            yield whole(f"rope_factors_{kind}.weight", GgmlType.F32, values.shape, partial(np.asarray, values))


def _block_name(source: str, block: int) -> str:
    return f"blk.{block}.{_MATRICES[source.rsplit('.', 1)[-1]]}.weight"


def _vector(checkpoint: Checkpoint, name: str, source: str) -> PlannedTensor:
    return whole(name, GgmlType.F32, checkpoint.tensors[source].shape, lambda: checkpoint.read(source))


def _matrix(
    checkpoint: Checkpoint, name: str, source: str, wanted: GgmlType, magnitudes: Mapping[str, float]
) -> PlannedTensor:
    stored = checkpoint.tensors[source]
    chosen = matrix_type(wanted, stored.shape[-1], magnitudes[source])
    if stored.dtype == chosen.name:  # nothing to convert: the published checkpoint's case on the way to a quantized one
        return PlannedTensor(name, chosen, stored.shape, lambda: checkpoint.raw_blocks(source), stored=True)
    return PlannedTensor(name, chosen, stored.shape, lambda: checkpoint.read_blocks(source))


def adapter_metadata(checkpoint: Checkpoint, adapter: AdapterName) -> dict[str, Any]:
    """Metadata of an adapter file."""
    return {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": np.float32(checkpoint.config.adapters[adapter].alpha),
        "hearsee.adapter": adapter,
    }


def adapter_tensors(
    checkpoint: Checkpoint, adapter: AdapterName, wanted: GgmlType, magnitudes: Mapping[str, float]
) -> list[PlannedTensor]:
    """Both factors of every adapted matrix, untransposed."""
    assert adapter in ADAPTER_NAMES
    planned = []
    for block in range(checkpoint.config.language.block_count):
        for source in adapted_matrices(checkpoint.config.language, block):
            for factor in "AB":
                name = f"{_block_name(source, block)}.lora_{factor.lower()}"
                tensor = f"{adapter}:{source}.lora_{factor}.weight"
                planned.append(_matrix(checkpoint, name, tensor, wanted, magnitudes))
    return planned
