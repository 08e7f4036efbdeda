"""Checks of ``language.gguf`` before libllama, which ends the process on some contradictions, sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import ModelFormatError
from app.runtime.formats.ggml_types import NOT_WEIGHTS, GgmlType
from app.runtime.formats.gguf import scalar
from app.runtime.formats.params import TokenIds

if TYPE_CHECKING:
    from app.runtime.formats.gguf import GgufFile, GgufTensor

_PREFIX = "phi3."
_COUNTS = (
    "context_length",
    "rope.scaling.original_context_length",
    "embedding_length",
    "feed_forward_length",
    "block_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
)
_FLOATS = ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.attn_factor")
_TOKENS, _TYPES, _MERGES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges"))
_TOKENIZER = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-4o"}
_IDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "eot", "padding"))
_FLAGS = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token")
_KNOWN = {
    *(_PREFIX + key for key in (*_COUNTS, *_FLOATS, "attention.sliding_window", "vocab_size")),
    *(_TOKENS, _TYPES, _MERGES, *_TOKENIZER, *_IDS, *_FLAGS, "tokenizer.huggingface.json"),
}
_OTHER_PREFIXES = ("general.", "hearsee.")  # libllama computes nothing from these
MAX_BLOCKS = 1024


def check_language(file: GgufFile) -> None:
    """Metadata must be possible, and the tensors those that the metadata call for.

    Raises:
        ModelFormatError: names the key or the tensor.
    """
    _check_metadata(file)
    for name, shape in language_shapes(file).items():
        tensor = file.get(name)
        if tensor is None or tensor.shape != shape:
            found = "missing" if tensor is None else f"of shape {tensor.shape} instead of {shape}"
            raise ModelFormatError(f"{file.path}: tensor {name} is {found}; convert the model again")
        check_type(file, tensor)
    _check_vocabulary(file)


def check_type(file: GgufFile, tensor: GgufTensor) -> None:
    """Vectors must be F32 and matrices of a type libggml multiplies by.

    Raises:
        ModelFormatError: names the tensor.
    """
    usable = tensor.type is GgmlType.F32 if len(tensor.shape) == 1 else tensor.type not in NOT_WEIGHTS
    if not usable:
        raise ModelFormatError(
            f"{file.path}: tensor {tensor.name} has the unusable type {tensor.type.name}; convert the model again"
        )


def language_shapes(file: GgufFile) -> dict[str, tuple[int, ...]]:
    """Name and shape, rows first, of every tensor that must be there."""
    sizes = {key: file.metadata[_PREFIX + key] for key in _COUNTS}
    width, ff, head = sizes["embedding_length"], sizes["feed_forward_length"], sizes["attention.key_length"]
    heads, heads_kv = sizes["attention.head_count"], sizes["attention.head_count_kv"]
    rows = file["token_embd.weight"].shape[0] if "token_embd.weight" in file else 0
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, width), "output_norm.weight": (width,)}
    if "output.weight" in file:
        shapes["output.weight"] = (rows, width)
    for kind in ("long", "short"):
        if f"rope_factors_{kind}.weight" in file:
            shapes[f"rope_factors_{kind}.weight"] = (sizes["rope.dimension_count"] // 2,)
    for block in range(sizes["block_count"]):
        prefix = f"blk.{block}."
        shapes |= {f"{prefix}attn_norm.weight": (width,), f"{prefix}ffn_norm.weight": (width,)}
        shapes[f"{prefix}attn_qkv.weight"] = ((heads + 2 * heads_kv) * head, width)
        shapes[f"{prefix}attn_output.weight"] = (width, heads * head)
        shapes[f"{prefix}ffn_up.weight"] = (2 * ff, width)
        shapes[f"{prefix}ffn_down.weight"] = (width, ff)
    return shapes


def _check_metadata(file: GgufFile) -> None:
    source = str(file.path)
    unknown = [key for key in file.metadata if key not in _KNOWN and not key.startswith(_OTHER_PREFIXES)]
    if unknown:  # libllama knows many more, some of which turn it into another model
        raise ModelFormatError(f"{source}: metadata key {unknown[0][:80]!r} is not known; convert the model again")
    sizes = {key: scalar(file.metadata, _PREFIX + key, int, source) for key in _COUNTS}
    for key, value in sizes.items():
        if not 0 < value < 1 << 31:
            raise _wrong(source, _PREFIX + key, value)
    for key in _FLOATS:
        value = scalar(file.metadata, _PREFIX + key, float, source)
        if not (math.isfinite(value) and value > 0):
            raise _wrong(source, _PREFIX + key, value)
    if sizes["block_count"] > MAX_BLOCKS:
        raise _wrong(source, _PREFIX + "block_count", sizes["block_count"])
    if sizes["attention.head_count"] % sizes["attention.head_count_kv"]:
        raise _wrong(source, _PREFIX + "attention.head_count_kv", sizes["attention.head_count_kv"])
    if sizes["attention.key_length"] != sizes["attention.value_length"]:
        raise _wrong(source, _PREFIX + "attention.value_length", sizes["attention.value_length"])
    if sizes["rope.dimension_count"] % 2 or sizes["rope.dimension_count"] > sizes["attention.key_length"]:
        raise _wrong(source, _PREFIX + "rope.dimension_count", sizes["rope.dimension_count"])


def _check_vocabulary(file: GgufFile) -> None:
    source, rows = str(file.path), file["token_embd.weight"].shape[0]
    for key, kind in _TOKENIZER.items():
        if scalar(file.metadata, key, str, source) != kind:
            raise ModelFormatError(f"{source}: {key} is not {kind}; convert the model again")
    tokens, types, merges = (file.metadata.get(key) for key in (_TOKENS, _TYPES, _MERGES))
    if not isinstance(tokens, list) or len(set(tokens)) != rows:
        raise ModelFormatError(f"{source}: {_TOKENS} does not hold {rows} different texts; convert the model again")
    if not isinstance(types, np.ndarray) or types.dtype != np.int32 or len(types) != rows:
        raise ModelFormatError(f"{source}: {_TYPES} does not hold {rows} whole numbers; convert the model again")
    if not isinstance(merges, list) or not all(" " in merge[1:] for merge in merges):
        raise ModelFormatError(f"{source}: {_MERGES} does not hold pairs of texts; convert the model again")
    too_big = [key for key, value in _token_ids(file, source).items() if value >= rows]
    if too_big:
        raise ModelFormatError(f"{source}: {', '.join(too_big)} lie outside the vocabulary; convert the model again")


def _token_ids(file: GgufFile, source: str) -> dict[str, int]:
    ids = {key: int(value) for key, value in TokenIds.from_metadata(file.metadata, source).to_metadata().items()}
    return ids | {key: scalar(file.metadata, key, int, source) for key in _IDS if key in file.metadata}


def _wrong(source: str, key: str, value: object) -> ModelFormatError:
    return ModelFormatError(f"{source}: metadata key {key} has the impossible value {value}; convert the model again")
