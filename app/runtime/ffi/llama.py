"""Typed stubs of the libllama functions the language model needs, and their structures.

Structures passed by value must match the installed build bit for bit: :func:`check_layout`
compares the library's own default parameters with what its header says they are.
"""

from __future__ import annotations

import ctypes
from typing import Annotated, Final

from app.common.errors import NativeCallError
from app.runtime.ffi.binding import Address, Bool, Float, Int32, Reference, Size, Text, UInt32, native_function

GGML_TYPE_F32: Final = 0
GGML_TYPE_F16: Final = 1
LOAD_MODE_MMAP: Final = 1
SPLIT_MODE_NONE: Final = 0
SPLIT_MODE_LAYER: Final = 1
FLASH_ATTN_AUTO: Final = -1
FLASH_ATTN_OFF: Final = 0
FLASH_ATTN_ON: Final = 1
DECODE_OK: Final = 0
DECODE_NO_SLOT: Final = 1
DECODE_ABORTED: Final = 2


class KvOverrideValue(ctypes.Union):
    """Value part of a metadata override."""

    _fields_ = (
        ("val_i64", ctypes.c_int64),
        ("val_f64", ctypes.c_double),
        ("val_bool", ctypes.c_bool),
        ("val_str", ctypes.c_char * 128),
    )


class KvOverride(ctypes.Structure):
    """One overridden metadata key; an array of them ends with an empty key. Tag 0 is an integer."""

    _fields_ = (("tag", ctypes.c_int), ("key", ctypes.c_char * 128), ("value", KvOverrideValue))


class ModelParams(ctypes.Structure):
    """llama_model_params."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int),
        ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool),
        ("load_mtp", ctypes.c_bool),
    )


class ContextParams(ctypes.Structure):
    """llama_context_params."""

    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("n_rs_seq", ctypes.c_uint32),
        ("n_outputs_max", ctypes.c_uint32),
        ("n_outputs_max_per_seq", ctypes.c_uint32),
        ("n_threads", ctypes.c_int32),
        ("n_threads_batch", ctypes.c_int32),
        ("ctx_type", ctypes.c_int),
        ("rope_scaling_type", ctypes.c_int),
        ("pooling_type", ctypes.c_int),
        ("attention_type", ctypes.c_int),
        ("flash_attn_type", ctypes.c_int),
        ("rope_freq_base", ctypes.c_float),
        ("rope_freq_scale", ctypes.c_float),
        ("yarn_ext_factor", ctypes.c_float),
        ("yarn_attn_factor", ctypes.c_float),
        ("yarn_beta_fast", ctypes.c_float),
        ("yarn_beta_slow", ctypes.c_float),
        ("yarn_orig_ctx", ctypes.c_uint32),
        ("defrag_thold", ctypes.c_float),
        ("cb_eval", ctypes.c_void_p),
        ("cb_eval_user_data", ctypes.c_void_p),
        ("type_k", ctypes.c_int),
        ("type_v", ctypes.c_int),
        ("abort_callback", ctypes.c_void_p),
        ("abort_callback_data", ctypes.c_void_p),
        ("embeddings", ctypes.c_bool),
        ("offload_kqv", ctypes.c_bool),
        ("no_perf", ctypes.c_bool),
        ("op_offload", ctypes.c_bool),
        ("swa_full", ctypes.c_bool),
        ("kv_unified", ctypes.c_bool),
        ("samplers", ctypes.c_void_p),
        ("n_samplers", ctypes.c_size_t),
        ("ctx_other", ctypes.c_void_p),
    )


class Batch(ctypes.Structure):
    """llama_batch: rows are token ids or embeddings, never both."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.c_void_p),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.c_void_p),
        ("n_seq_id", ctypes.c_void_p),
        ("seq_id", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
    )


class TokenData(ctypes.Structure):
    """One candidate for the next token."""

    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class TokenDataArray(ctypes.Structure):
    """Candidates as samplers take them; ``selected`` is an index, -1 while none is."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


class SamplerChainParams(ctypes.Structure):
    """llama_sampler_chain_params."""

    _fields_ = (("no_perf", ctypes.c_bool),)


@native_function
def llama_model_default_params() -> ModelParams:
    """Default load parameters."""


@native_function
def llama_context_default_params() -> ContextParams:
    """Default context parameters."""


@native_function
def llama_backend_init() -> None:
    """Set up tables and timers; once per process."""


@native_function
def llama_model_load_from_file(path: Text, params: ModelParams) -> Address | None:
    """A model, or NULL."""


@native_function
def llama_model_free(model: Address) -> None:
    """Free a model; its contexts and adapters must be gone."""


@native_function
def llama_model_get_vocab(model: Address) -> Address:
    """The vocabulary, owned by the model."""


@native_function
def llama_vocab_n_tokens(vocab: Address) -> Int32:
    """Rows of the embedding table."""


@native_function
def llama_model_n_embd(model: Address) -> Int32:
    """Width of the model."""


@native_function
def llama_model_n_ctx_train(model: Address) -> Int32:
    """The longest context the file allows."""


@native_function
def llama_model_size(model: Address) -> Annotated[int, ctypes.c_uint64]:
    """Bytes of all tensors."""


@native_function
def llama_adapter_lora_init(model: Address, path: Text) -> Address | None:
    """An adapter, or NULL."""


@native_function
def llama_adapter_lora_free(adapter: Address) -> None:
    """Free an adapter; no context may use it."""


@native_function
def llama_set_adapters_lora(context: Address, adapters: Reference, n_adapters: Size, scales: Reference) -> Int32:
    """Replace the adapters of a context."""


@native_function
def llama_init_from_model(model: Address, params: ContextParams) -> Address | None:
    """A context, or NULL."""


@native_function
def llama_free(context: Address) -> None:
    """Free a context."""


@native_function
def llama_n_ctx(context: Address) -> UInt32:
    """Cells of the KV cache, after rounding."""


@native_function
def llama_get_memory(context: Address) -> Address:
    """The KV cache, owned by the context."""


@native_function
def llama_memory_clear(memory: Address, data: Bool) -> None:
    """Forget every sequence."""


@native_function
def llama_memory_seq_rm(memory: Address, sequence: Int32, begin: Int32, end: Int32) -> Bool:
    """Forget positions [begin, end) of a sequence; negative means unbounded."""


@native_function
def llama_memory_seq_pos_max(memory: Address, sequence: Int32) -> Int32:
    """The last position held, -1 when empty."""


@native_function
def llama_state_seq_get_size(context: Address, sequence: Int32) -> Size:
    """Bytes of one sequence's KV rows."""


@native_function
def llama_state_seq_get_data(context: Address, target: Reference, size: Size, sequence: Int32) -> Size:
    """Copy one sequence's KV rows out; bytes written, 0 on failure."""


@native_function
def llama_state_seq_set_data(context: Address, source: Reference, size: Size, sequence: Int32) -> Size:
    """Copy KV rows in; bytes read, 0 on failure."""


@native_function
def llama_decode(context: Address, batch: Batch) -> Int32:
    """Run a batch; one of the DECODE codes, negative on failure."""


@native_function
def llama_synchronize(context: Address) -> None:
    """Wait for the device."""


@native_function
def llama_get_logits(context: Address) -> Address | None:
    """Rows of float32 logits of the last batch."""


@native_function
def llama_set_n_threads(context: Address, n_threads: Int32, n_threads_batch: Int32) -> None:
    """Threads for single tokens and for batches."""


@native_function
def llama_sampler_chain_default_params() -> SamplerChainParams:
    """Default chain parameters."""


@native_function
def llama_sampler_chain_init(params: SamplerChainParams) -> Address:
    """An empty chain."""


@native_function
def llama_sampler_chain_add(chain: Address, sampler: Address) -> None:
    """Append a sampler; the chain owns it from now on."""


@native_function
def llama_sampler_sample(chain: Address, context: Address, row: Int32) -> Int32:
    """Sample from a row of logits of the last batch, and accept."""


@native_function
def llama_sampler_apply(sampler: Address, candidates: Reference) -> None:
    """Filter, reweight or select among candidates."""


@native_function
def llama_sampler_accept(sampler: Address, token: Int32) -> None:
    """Tell stateful samplers which token was taken."""


@native_function
def llama_sampler_reset(sampler: Address) -> None:
    """Forget accepted tokens."""


@native_function
def llama_sampler_free(sampler: Address) -> None:
    """Free a chain or a sampler outside one."""


@native_function
def llama_sampler_init_greedy() -> Address:
    """Take the largest logit."""


@native_function
def llama_sampler_init_dist(seed: UInt32) -> Address:
    """Draw from the distribution."""


@native_function
def llama_sampler_init_top_k(k: Int32) -> Address:
    """Keep the k best."""


@native_function
def llama_sampler_init_top_p(p: Float, min_keep: Size) -> Address:
    """Keep the smallest set with probability p."""


@native_function
def llama_sampler_init_min_p(p: Float, min_keep: Size) -> Address:
    """Keep what has at least p times the best probability."""


@native_function
def llama_sampler_init_temp(temperature: Float) -> Address:
    """Divide logits by the temperature."""


@native_function
def llama_sampler_init_penalties(
    n_vocab: Int32, last_n: Int32, repeat: Float, frequency: Float, presence: Float
) -> Address:
    """Penalize recent tokens."""


@native_function
def llama_sampler_init_grammar(vocab: Address, grammar: Text, root: Text) -> Address | None:
    """Allow only what a GBNF grammar allows; NULL when the grammar does not parse."""


def check_layout() -> None:
    """Compare the library's defaults, field by field, with those of the header the structures follow.

    Raises:
        NativeCallError: a structure has another layout than this module expects.
    """
    found = {**_values(llama_context_default_params()), **_values(llama_model_default_params())}
    wrong = [name for name, value in _DEFAULTS.items() if found[name] != value]
    if wrong:
        raise NativeCallError(
            "llama_context_default_params",
            f"libllama has another layout than Hearsee expects ({', '.join(wrong)}); run: make setup",
        )


def _values(structure: ctypes.Structure) -> dict[str, object]:
    return {str(field[0]): getattr(structure, field[0]) for field in structure._fields_}


_DEFAULTS: Final[dict[str, object]] = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "flash_attn_type": FLASH_ATTN_AUTO,
    "yarn_beta_slow": -1.0, "yarn_orig_ctx": 0, "defrag_thold": -1.0, "type_k": GGML_TYPE_F16, "type_v": GGML_TYPE_F16,
    "abort_callback": None, "offload_kqv": True, "no_perf": True, "op_offload": True, "swa_full": True,
    "kv_unified": False, "n_samplers": 0, "ctx_other": None, "n_gpu_layers": -1, "split_mode": SPLIT_MODE_LAYER,
    "load_mode": -1, "lazy_mode": 1, "main_gpu": 0, "kv_overrides": None, "vocab_only": False,
    "check_tensors": False, "use_extra_bufts": True, "no_alloc": False, "load_mtp": False,
}  # fmt: skip
