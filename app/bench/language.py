"""``hearsee bench language``: decoding and prefilling, each beside the loop it is measured against.

Contenders take turns within one run and the best round of each counts, so that what else the
machine does falls on all of them.
"""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from app.bench.random_model import random_model
from app.runtime.events import Finished, GenerateOptions, SessionOptions, TokenText
from app.runtime.ffi import llama, native_log
from app.runtime.ffi.loader import native
from app.runtime.language.context import CancelFlag, LanguageContext
from app.runtime.messages import Message, Text
from app.runtime.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.runtime.session import Session

_CONTEXT_TOKENS = 1024
_PREFILL_TOKENS = 512
_QUESTION = (Message("user", (Text("Tell me something about the weather on the sea."),)),)
_BANDWIDTH_BYTES = 256 << 20  # far beyond any cache


def run(*, full: bool, say: Callable[[str], None]) -> dict[str, float]:
    """Figures by name; see docs/runtime.md for what they mean."""
    return measure(random_model(full=full, say=say), say=say, n_tokens=32 if full else 96, n_rounds=3 if full else 5)


def measure(
    directory: Path, *, say: Callable[[str], None], n_tokens: int, n_rounds: int, n_threads: int | None = None
) -> dict[str, float]:
    """All figures of one model.

    Args:
        directory: the model.
        say: takes progress lines.
        n_tokens: decoded per round.
        n_rounds: of which the best counts.
        n_threads: for all contenders; None for one per core.
    """
    with Model.open(directory, device="cpu", n_threads=n_threads) as model:
        say("decoding: session, bare loop and adapters in turn")
        rates, python_s = _decode_rates(model, n_tokens, n_rounds)
        say("prefilling")
        prefill = max(_prefill_rate(model, seed) for seed in range(n_rounds))
        bandwidth = max(_memory_bandwidth(model.context_options.threads) for _ in range(n_rounds))
        read_bytes = model.language.size_bytes
    say("decoding through llama-cpp-python's high-level chat")
    high_level = _high_level_rate(directory / "language.gguf", n_tokens, n_rounds, model.context_options.threads)
    return {
        "decode_tokens_per_s": rates["session"],
        "prefill_tokens_per_s": prefill,
        "decode_vs_bare_loop": rates["session"] / rates["bare"],
        "decode_vs_high_level_api": rates["session"] / high_level,
        "decode_vs_memory_bandwidth": rates["session"] * read_bytes / bandwidth,
        "memory_bandwidth_gb_per_s": bandwidth / 1e9,
        "python_ms_per_token": python_s * 1e3,
        "vision_adapter_decode_cost": 1 - rates["vision"] / rates["none"],
        "speech_adapter_decode_cost": 1 - rates["speech"] / rates["none"],
    }


def _decode_rates(model: Model, n_tokens: int, n_rounds: int) -> tuple[dict[str, float], float]:
    """Best tokens per second of each contender, and the session's seconds per token outside native code."""
    best = dict.fromkeys(("session", "bare", "none", "vision", "speech"), 0.0)
    python_s = np.inf
    with model.session(SessionOptions(context_tokens=_CONTEXT_TOKENS)) as session:
        list(session.generate(_QUESTION, GenerateOptions(max_tokens=4)))  # warm up
        for _ in range(n_rounds):
            rate, outside_s = _session_rate(session, n_tokens)
            best["session"], python_s = max(best["session"], rate), min(python_s, outside_s)
            best["bare"] = max(best["bare"], _bare_rate(model, n_tokens))
            for name, adapter in (("none", None), ("vision", "vision"), ("speech", "speech")):
                best[name] = max(best[name], _context_rate(model, adapter, n_tokens))
    return best, float(python_s)


def _session_rate(session: Session, n_tokens: int) -> tuple[float, float]:
    """Tokens per second of one answer after its first token, and seconds per token spent outside llama_decode."""
    answer = session.generate(_QUESTION, GenerateOptions(max_tokens=n_tokens))
    next(event for event in answer if isinstance(event, TokenText))
    native_s, start = session.native_s, time.perf_counter()
    *_, finished = answer
    elapsed_s, native_s = time.perf_counter() - start, session.native_s - native_s
    assert isinstance(finished, Finished)
    n_steps = max(1, finished.stats.answer_tokens - 1)
    return n_steps / elapsed_s, (elapsed_s - native_s) / n_steps


def _bare_rate(model: Model, n_tokens: int) -> float:
    """The least a program has to do: llama_decode and llama.cpp's own greedy sampler, nothing else."""
    with LanguageContext(model.language, _CONTEXT_TOKENS, model.context_options, CancelFlag()) as context:
        context.decode(np.array(model.tokenizer.encode("Tell me something."), np.int32), 1)
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
        decode, sample = llama.llama_decode.bind(), llama.llama_sampler_sample.bind()
        token = ctypes.c_int32()
        batch = llama.Batch(n_tokens=1, token=ctypes.addressof(token))  # position and sequence follow by themselves
        handle = context.handle
        start = time.perf_counter()
        for _ in range(n_tokens):
            token.value = sample(chain, handle, -1)
            decode(handle, batch)
        elapsed_s = time.perf_counter() - start
        llama.llama_sampler_free(chain)
        return n_tokens / elapsed_s


def _context_rate(model: Model, adapter: str | None, n_tokens: int) -> float:
    """Decoding alone under one adapter."""
    with LanguageContext(model.language, _CONTEXT_TOKENS, model.context_options, CancelFlag(), adapter) as context:
        context.decode_token(1)
        start = time.perf_counter()
        for token in range(n_tokens):
            context.decode_token(token)
            context.logits()
        return n_tokens / (time.perf_counter() - start)


def _prefill_rate(model: Model, seed: int) -> float:
    n_tokens = _PREFILL_TOKENS
    ids = np.random.default_rng(seed).integers(0, min(1000, model.language.n_vocab), n_tokens).astype(np.int32)
    with LanguageContext(model.language, _CONTEXT_TOKENS, model.context_options, CancelFlag()) as context:
        context.decode_token(1)
        start = time.perf_counter()
        for begin in range(0, n_tokens, context.chunk_tokens):
            context.decode(ids[begin : begin + context.chunk_tokens])
        context.decode_token(1)
        context.logits()
        return (n_tokens + 1) / (time.perf_counter() - start)


def _memory_bandwidth(n_threads: int) -> float:
    """Bytes per second that ``n_threads`` threads read memory at."""
    parts = np.array_split(np.zeros(_BANDWIDTH_BYTES // 8, np.int64), n_threads)
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(np.max, parts))  # touch every page
        start = time.perf_counter()
        list(pool.map(np.max, parts))
        return _BANDWIDTH_BYTES / (time.perf_counter() - start)


def _high_level_rate(path: Path, n_tokens: int, n_rounds: int, n_threads: int) -> float:
    """Tokens per second of create_chat_completion, after its first token."""
    from llama_cpp import Llama

    native_log.listen(native().libraries["llama"])

    chat = Llama(str(path), n_ctx=_CONTEXT_TOKENS, n_threads=n_threads, n_threads_batch=n_threads, verbose=False)
    try:
        return max(_chat_rate(chat, n_tokens) for _ in range(n_rounds))
    finally:
        chat.close()


def _chat_rate(chat: object, n_tokens: int) -> float:
    question = [{"role": "user", "content": "Tell me something about the weather on the sea."}]
    pieces = chat.create_chat_completion(question, max_tokens=n_tokens, temperature=0.0, stream=True)  # type: ignore[attr-defined]
    next(islice(pieces, 1, None))  # the role, then the first token
    start = time.perf_counter()
    n_pieces = sum(1 for piece in pieces if "content" in piece["choices"][0]["delta"])
    return n_pieces / (time.perf_counter() - start)
