"""One llama.cpp context: a KV cache of one sequence under one adapter and rope regime."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.common.closing import Closing
from app.common.errors import Cancelled, ContextOverflowError, DeviceError, NativeCallError
from app.runtime.ffi import llama, native_log
from app.runtime.ffi.binding import fail
from app.runtime.language.model import padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.language.model import LanguageModel

_ADAPTER_SCALE = 1.0
_FEWEST_ROWS = 16
_MAX_SCORES_PER_HEAD = 1 << 22


class CancelFlag:
    """A flag that libllama itself polls between the operations of a graph.

    Its abort callback is libc's strlen on a two-byte buffer: an empty string is 0, "go on"; one
    character is 1, "stop". So no Python runs inside a decode step and any thread may set it.
    """

    def __init__(self) -> None:
        self._text = ctypes.create_string_buffer(2)
        library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        self.callback = ctypes.cast(library.strlen, ctypes.c_void_p).value
        self.address = ctypes.addressof(self._text)

    def set(self) -> None:
        """Ask the computation to stop."""
        self._text[0] = b"x"

    def clear(self) -> None:
        """Allow computation again."""
        self._text[0] = b"\0"

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return bool(self._text[0] != b"\0")

    def check(self) -> None:
        """Raise Cancelled if a stop was asked for."""
        if self.is_set():
            raise Cancelled("cancelled")


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """How contexts compute.

    Attributes:
        exact: F32 KV cache and no flash attention: within 3e-5 of float64 (phi4mm 11).
        chunk_tokens: prompt rows computed at once; a step that progress and cancel can see.
        n_threads: for computing on the CPU.
        flash_attention: for the setting that is not exact.
        output_rows: rows of logits one step can give; each costs 4 bytes per vocabulary entry.
    """

    exact: bool = False
    chunk_tokens: int = 256
    n_threads: int = 0
    flash_attention: bool = False
    output_rows: int = 16

    @property
    def threads(self) -> int:
        """Threads to use; 0 was "as many as this process may run on"."""
        return self.n_threads or default_threads()


def default_threads() -> int:
    """CPUs this process may run on, at most 16: more only wait for memory."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(16, available))


def chunk_for(capacity_tokens: int, options: ContextOptions) -> int:
    """Rows to compute at once: without flash attention every row has a score per head and cell at the same time.

    At 131,072 cells and 24 heads, 256 rows would take 3.2 GB for the scores; 32 rows take 0.4 GB.
    """
    wanted = min(options.chunk_tokens, padded(capacity_tokens))
    if options.flash_attention and not options.exact:
        return wanted
    return min(wanted, max(_FEWEST_ROWS, _MAX_SCORES_PER_HEAD // padded(capacity_tokens)))


class LanguageContext(Closing):
    """Decodes token ids or embedding rows at explicit positions of one sequence.

    Threads: one at a time; only the cancel flag may be set from others.

    Attributes:
        n_tokens: rows the KV cache holds.
        capacity_tokens: rows it has room for.
        native_s: time spent inside llama_decode so far.
    """

    def __init__(
        self,
        model: LanguageModel,
        capacity_tokens: int,
        options: ContextOptions,
        cancel: CancelFlag,
        adapter: str | None = None,
    ) -> None:
        """Allocate the KV cache and switch the adapter on.

        Raises:
            DeviceError: there is not enough memory.
            ModelFormatError: the adapter is missing or does not fit.
        """
        adapter_handle = None if adapter is None else model.adapter(adapter)
        self._model, self._options, self._cancel = model, options, cancel
        self._chunk_tokens = chunk_for(capacity_tokens, options)
        self._output_rows = min(options.output_rows, self._chunk_tokens)
        self._resources = ExitStack()
        self.handle = self._create(capacity_tokens)
        self._resources.callback(llama.llama_free, self.handle)
        self._memory = llama.llama_get_memory(self.handle)
        self.capacity_tokens = llama.llama_n_ctx(self.handle)
        self.n_tokens = 0
        self.native_s = 0.0
        if adapter_handle is not None:
            self._apply(adapter_handle)
        self._set_up_batch()

    def _create(self, capacity_tokens: int) -> int:
        params = llama.llama_context_default_params()
        params.n_ctx = capacity_tokens
        params.n_batch = params.n_ubatch = self._chunk_tokens
        params.n_outputs_max = self._output_rows  # else memory for a whole chunk of logits is set aside
        params.n_threads = params.n_threads_batch = self._options.threads
        kv_type = llama.GGML_TYPE_F32 if self._options.exact else llama.GGML_TYPE_F16
        params.type_k = params.type_v = kv_type
        flash = self._options.flash_attention and not self._options.exact
        params.flash_attn_type = llama.FLASH_ATTN_AUTO if flash else llama.FLASH_ATTN_OFF
        params.abort_callback, params.abort_callback_data = self._cancel.callback, self._cancel.address
        native_log.recent_troubles()
        handle = llama.llama_init_from_model(self._model.handle, params)
        if handle is None:
            reason = native_log.recent_troubles() or "not enough memory"
            raise DeviceError(f"no room for a context of {capacity_tokens} tokens ({reason}); use a shorter context")
        return handle

    def _apply(self, adapter: int) -> None:
        handles, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(_ADAPTER_SCALE)
        code = llama.llama_set_adapters_lora(self.handle, handles, 1, scales)
        if code != 0:
            fail("llama_set_adapters_lora", "the adapter cannot be switched on; verify the model", code)

    def _set_up_batch(self) -> None:
        """Arrays every batch points into; positions are a window of one long ramp."""
        self._positions = np.arange(self.capacity_tokens, dtype=np.int32)
        self._wanted = np.zeros(self._chunk_tokens, np.int8)
        self._position_address, self._wanted_address = self._positions.ctypes.data, self._wanted.ctypes.data
        self._token, self._token_wanted = ctypes.c_int32(), ctypes.c_int8(1)
        token, wanted = ctypes.addressof(self._token), ctypes.addressof(self._token_wanted)
        self._single = llama.Batch(n_tokens=1, token=token, logits=wanted)
        self._batch = llama.Batch()
        self._decode, self._get_logits = llama.llama_decode.bind(), llama.llama_get_logits.bind()
        self._logits: NDArray[np.float32] = np.zeros((0, self._model.n_vocab), np.float32)
        self._logits_address: int | None = None

    @property
    def chunk_tokens(self) -> int:
        """The most rows one call of :meth:`decode` takes."""
        return self._chunk_tokens

    @property
    def output_rows(self) -> int:
        """The most rows that may get logits in one call of :meth:`decode`."""
        return self._output_rows

    def decode(self, rows: NDArray[np.int32] | NDArray[np.float32], n_outputs: int = 0) -> None:
        """Append rows to the sequence.

        Args:
            rows: int32 token ids, shape (n,), or float32 embeddings, shape (n, n_embd); n at most
                chunk_tokens.
            n_outputs: how many of the last rows get logits.

        Raises:
            Cancelled: the flag was set; nothing was appended.
            ContextOverflowError: the cache is full; nothing was appended.
            NativeCallError: the computation failed; the cache was emptied.
        """
        n_rows = len(rows)
        self._check_rows(rows, n_outputs)
        self._wanted[: n_rows - n_outputs] = 0
        self._wanted[n_rows - n_outputs : n_rows] = 1
        batch = self._batch
        batch.n_tokens = n_rows
        batch.token, batch.embd = (rows.ctypes.data, None) if rows.dtype == np.int32 else (None, rows.ctypes.data)
        batch.logits = self._wanted_address
        self._run(batch, n_rows)

    def _check_rows(self, rows: NDArray[np.int32] | NDArray[np.float32], n_outputs: int) -> None:
        """Native code reads rows by address: a wrong shape would read foreign memory."""
        shape = (len(rows),) if rows.dtype == np.int32 else (len(rows), self._model.n_embd)
        if rows.dtype not in (np.int32, np.float32) or rows.shape != shape or not rows.flags.c_contiguous:
            raise ValueError(f"rows of shape {rows.shape} and type {rows.dtype} do not fit the model")
        if not 0 < len(rows) <= self._chunk_tokens:
            raise ValueError(f"{len(rows)} rows do not fit a chunk of {self._chunk_tokens}")
        if not 0 <= n_outputs <= min(len(rows), self._output_rows):
            raise ValueError(f"{n_outputs} rows of logits do not fit {self._output_rows}")

    def decode_token(self, token: int) -> None:
        """Append one token and compute its logits; errors as :meth:`decode`."""
        self._token.value = token
        self._run(self._single, 1)

    def _run(self, batch: llama.Batch, n_rows: int) -> None:
        if self.n_tokens + n_rows > self.capacity_tokens:
            raise ContextOverflowError(
                f"the context of {self.capacity_tokens} tokens is full; start a new conversation"
            )
        batch.pos = self._position_address + 4 * self.n_tokens
        start = time.perf_counter()
        code = self._decode(self.handle, batch)
        self.native_s += time.perf_counter() - start
        if code != llama.DECODE_OK:
            self._explain(code)
        self.n_tokens += n_rows

    def _explain(self, code: int) -> None:
        if code == llama.DECODE_ABORTED:
            self._forget_unknown()
            raise Cancelled("cancelled")
        held = self.n_tokens
        self.forget(0)
        fail("llama_decode", f"a step after {held} tokens failed; try again, or with a smaller model or context", code)

    def _forget_unknown(self) -> None:
        """Drop rows an aborted step may have left behind."""
        if not llama.llama_memory_seq_rm(self._memory, 0, self.n_tokens, -1):
            self.forget(0)

    def logits(self, n_outputs: int = 1) -> NDArray[np.float32]:
        """Logits of the last decode, shape (n_outputs, n_vocab): a view, valid until the next call."""
        address = self._get_logits(self.handle)  # waits for the device
        if address is None:
            raise NativeCallError("llama_get_logits", "no logits were computed; please report this")
        if address != self._logits_address or n_outputs != len(self._logits):
            count = n_outputs * self._model.n_vocab
            view = np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))
            self._logits, self._logits_address = view.reshape(n_outputs, -1), address
        return self._logits

    def forget(self, begin: int) -> None:
        """Drop all rows from position ``begin`` on."""
        if begin >= self.n_tokens > 0:
            return
        if begin == 0 or not llama.llama_memory_seq_rm(self._memory, 0, begin, -1):
            llama.llama_memory_clear(self._memory, False)
            begin = 0
        self.n_tokens = begin

    def copy_rows_from(self, other: LanguageContext) -> None:
        """Take over all KV rows of a context with the same model, adapter, regime and options.

        Raises:
            NativeCallError: the rows cannot be copied; this context is left empty.
        """
        size = llama.llama_state_seq_get_size(other.handle, 0)
        state = np.empty(size, np.uint8)
        written = llama.llama_state_seq_get_data(other.handle, state.ctypes.data, size, 0)
        if written == 0 or llama.llama_state_seq_set_data(self.handle, state.ctypes.data, written, 0) == 0:
            self.forget(0)
            fail("llama_state_seq_set_data", "a context cannot be enlarged; use a shorter context")
        self.n_tokens = other.n_tokens

    def close(self) -> None:
        """Free the context."""
        self._resources.close()
