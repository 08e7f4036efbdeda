"""The loaded language model: weights, vocabulary and adapters, shared by all its contexts."""

from __future__ import annotations

import ctypes
import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from app.common.closing import Closing
from app.common.errors import ModelFormatError, NativeCallError
from app.runtime.ffi import llama, native_log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_logger = logging.getLogger("app.runtime.language")

CONTEXT_PADDING = 256  # llama.cpp rounds context sizes up to a multiple of this
_ORIGINAL_KEY = "rope.scaling.original_context_length"
_lock = threading.Lock()
_backend_ready = False


@dataclass(frozen=True, slots=True)
class RopeLengths:
    """Where the rope regime changes.

    Attributes:
        original_tokens: up to this total length the short factors apply, above it the long ones.
        context_tokens: the longest context of the model.
    """

    original_tokens: int
    context_tokens: int

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], source: str) -> Self:
        """Read both lengths.

        Raises:
            ModelFormatError: a length is missing or impossible.
        """
        lengths = cls(_length(metadata, _ORIGINAL_KEY, source), _length(metadata, "context_length", source))
        if lengths.original_tokens > lengths.context_tokens:
            raise ModelFormatError(
                f"{source}: the original context is longer than the context; convert the model again"
            )
        return lengths

    @property
    def padded_original_tokens(self) -> int:
        """The original length as llama.cpp must see it: it compares it with padded context sizes."""
        return padded(self.original_tokens)

    def is_long(self, total_tokens: int) -> bool:
        """Whether a sequence of this total length uses the long factors (phi4mm 1.3)."""
        return total_tokens > self.original_tokens


def padded(n_tokens: int) -> int:
    """``n_tokens`` rounded up as llama.cpp rounds context sizes."""
    return -(-n_tokens // CONTEXT_PADDING) * CONTEXT_PADDING


def _length(metadata: Mapping[str, Any], name: str, source: str) -> int:
    value = metadata.get(f"phi3.{name}")
    if type(value) is not int or not 0 < value < 2**31 - CONTEXT_PADDING:
        raise ModelFormatError(f"{source}: metadata key phi3.{name} is {value!r}; convert the model again")
    return value


class LanguageModel(Closing):
    """llama.cpp's model and the adapters loaded so far.

    Threads: loading an adapter takes a lock; the rest is read-only after construction.

    Attributes:
        handle: llama_model address.
        vocab: llama_vocab address.
        lengths: of the rope regimes.
        n_vocab: rows of logits.
        n_embd: width of embedding rows.
    """

    def __init__(
        self,
        path: Path,
        lengths: RopeLengths,
        *,
        adapters: Mapping[str, Path] | None = None,
        devices: Sequence[int] = (),
        gpu_layers: int | None = None,
    ) -> None:
        """Load the weights by memory map.

        Args:
            path: language.gguf, whose structure has been checked.
            lengths: from the file's metadata.
            adapters: adapter name to file; loaded when first asked for.
            devices: ggml_backend_dev_t addresses to offload to; none means the CPU.
            gpu_layers: how many layers to offload; None means all.

        Raises:
            ModelFormatError: libllama refuses the file.
        """
        _init_backend()
        self.lengths = lengths
        self.path = path
        self._adapter_paths = dict(adapters or {})
        self._adapters: dict[str, int] = {}
        self._resources = ExitStack()
        self.handle = _load(path, lengths, devices, gpu_layers)
        self._resources.callback(llama.llama_model_free, self.handle)
        self.vocab = llama.llama_model_get_vocab(self.handle)
        self.n_vocab = llama.llama_vocab_n_tokens(self.vocab)
        self.n_embd = llama.llama_model_n_embd(self.handle)
        self.size_bytes = llama.llama_model_size(self.handle)

    def adapter(self, name: str) -> int:
        """Address of adapter ``name``, loaded on first use.

        Raises:
            ModelFormatError: the model has no such adapter, or its file does not fit the model.
        """
        with _lock:
            if name not in self._adapters:
                self._adapters[name] = self._load_adapter(name)
            return self._adapters[name]

    def _load_adapter(self, name: str) -> int:
        path = self._adapter_paths.get(name)
        if path is None:
            raise ModelFormatError(f"{self.path}: the model has no {name} adapter; install a model with that ability")
        native_log.recent_troubles()
        handle = llama.llama_adapter_lora_init(self.handle, str(path).encode())
        if handle is None:
            raise ModelFormatError(f"{path}: not an adapter of this model: {_reason()}")
        self._resources.callback(llama.llama_adapter_lora_free, handle)
        _logger.debug("loaded the %s adapter", name)
        return handle

    def close(self) -> None:
        """Free adapters and weights; contexts must be closed before."""
        self._resources.close()


def _init_backend() -> None:
    global _backend_ready
    with _lock:
        if not _backend_ready:
            llama.check_layout()
            llama.llama_backend_init()
            _backend_ready = True


def _load(path: Path, lengths: RopeLengths, devices: Sequence[int], gpu_layers: int | None) -> int:
    params = llama.llama_model_default_params()
    device_list = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
    overrides = _overrides(lengths)
    params.devices = ctypes.addressof(device_list)
    params.kv_overrides = ctypes.addressof(overrides)
    params.n_gpu_layers = 0 if not devices else -1 if gpu_layers is None else gpu_layers
    params.load_mode = llama.LOAD_MODE_MMAP
    native_log.recent_troubles()
    try:
        handle = llama.llama_model_load_from_file(str(path).encode(), params)
    except OSError as error:  # ctypes turns an access violation into this on Windows
        raise NativeCallError("llama_model_load_from_file", f"{path}: {error}") from error
    if handle is None:
        raise ModelFormatError(f"{path}: the language model cannot be loaded: {_reason()}")
    return handle


def _overrides(lengths: RopeLengths) -> ctypes.Array[llama.KvOverride]:
    """The original context length rounded up, so that padded short contexts stay short; see RopeLengths."""
    overrides = (llama.KvOverride * 2)()
    overrides[0].key = f"phi3.{_ORIGINAL_KEY}".encode()
    overrides[0].value.val_i64 = lengths.padded_original_tokens
    return overrides


def _reason() -> str:
    return native_log.recent_troubles() or "libllama gave no reason; verify the model or convert it again"
