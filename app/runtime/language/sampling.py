"""The next token from a row of logits, by llama.cpp's samplers; greedy by default."""

from __future__ import annotations

import ctypes
import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.common.closing import Closing
from app.common.errors import ConfigError, NativeCallError
from app.runtime.ffi import llama, native_log

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.language.context import LanguageContext
    from app.runtime.language.model import LanguageModel

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_GRAMMAR_ROOT = b"root"


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the most likely token.
        top_k: keep this many candidates; 0 keeps all.
        top_p: keep the smallest set with this probability.
        min_p: keep what has at least this share of the best one's probability.
        repeat_penalty: divides the logits of recent answer tokens; 1 is off.
        repeat_last_tokens: how many tokens are recent.
        seed: of the draw; the same seed draws the same answer.
        grammar: GBNF text the answer must follow, or None.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_tokens: int = 64
    seed: int = 0
    grammar: str | None = None

    def check(self) -> None:
        """Raise ConfigError for values no sampler can work with."""
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            if not (math.isfinite(value) and lowest <= value <= highest):
                raise ConfigError(f"{name} is {value}; it must lie between {lowest:g} and {highest:g}")


_RANGES = (
    ("temperature", 0, 100), ("top_k", 0, 2**31 - 1), ("top_p", 0, 1), ("min_p", 0, 1),
    ("repeat_penalty", 0.01, 100), ("repeat_last_tokens", 0, 2**20), ("seed", 0, 2**32 - 2),
)  # fmt: skip


class Sampler(Closing):
    """Chooses the tokens of one answer.

    Plain greedy is the position of the maximum in the logits where they lie; everything else runs
    in C. A grammar is asked first about the chain's own choice alone, and filters the whole
    vocabulary only when it refuses that.
    """

    def __init__(self, model: LanguageModel, options: SamplingOptions) -> None:
        """Set up the chain.

        Raises:
            ConfigError: an option is out of range or the grammar does not parse.
        """
        options.check()
        self._resources = ExitStack()
        self._plain_greedy = options.temperature == 0 and options.repeat_penalty == 1
        self._chain = self._make_chain(model, options)
        self._grammar = None if options.grammar is None else self._make_grammar(model, options.grammar)
        self._candidates = np.zeros(model.n_vocab if self._grammar else 1, _CANDIDATE)
        self._one = np.zeros(1, _CANDIDATE)

    def _make_chain(self, model: LanguageModel, options: SamplingOptions) -> int:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        self._resources.callback(llama.llama_sampler_free, chain)
        for sampler in _samplers(model.n_vocab, options):
            llama.llama_sampler_chain_add(chain, sampler)
        return chain

    def _make_grammar(self, model: LanguageModel, text: str) -> int:
        native_log.recent_troubles()
        grammar = llama.llama_sampler_init_grammar(model.vocab, text.encode(), _GRAMMAR_ROOT) if text.strip() else None
        if grammar is None:
            reason = native_log.recent_troubles() or "it must define a rule called root"
            raise ConfigError(f"the grammar cannot be used: {reason}")
        self._resources.callback(llama.llama_sampler_free, grammar)
        return grammar

    def sample(self, context: LanguageContext) -> int:
        """The next token, from the single row of logits of the last decode.

        Raises:
            NativeCallError: the logits are not numbers, or the grammar allows no token.
        """
        logits = context.logits()[0]
        best = int(logits.argmax())  # the position of a NaN, if there is one
        if math.isnan(logits[best]):
            raise NativeCallError("llama_decode", "the model computed numbers that are not; verify the model")
        if self._grammar is not None:
            return self._sample_grammar(logits, best)
        if self._plain_greedy:
            return best
        return llama.llama_sampler_sample(self._chain, context.handle, -1)

    def _sample_grammar(self, logits: NDArray[np.float32], best: int) -> int:
        token = best if self._plain_greedy else self._draw(logits)
        if not self._allowed(token):
            token = self._draw(logits, filtered=True)
        llama.llama_sampler_accept(self._chain, token)
        llama.llama_sampler_accept(self._grammar, token)  # type: ignore[arg-type]
        return token

    def _allowed(self, token: int) -> bool:
        self._one[0] = (token, 0.0, 0.0)
        self._apply(self._grammar, self._one)
        return bool(np.isfinite(self._one["logit"][0]))

    def _draw(self, logits: NDArray[np.float32], *, filtered: bool = False) -> int:
        candidates = self._candidates
        candidates["id"] = np.arange(len(logits))
        candidates["logit"] = logits
        if filtered:
            self._apply(self._grammar, candidates)
            if not np.isfinite(candidates["logit"]).any():
                raise NativeCallError("llama_sampler_apply", "the grammar allows no further token; change the grammar")
        return self._selected(candidates)

    def _selected(self, candidates: NDArray[np.void]) -> int:
        """Id the chain selects; samplers may have moved the candidates, so it is read where they say."""
        array = self._apply(self._chain, candidates)
        if not 0 <= array.selected < array.size:
            raise NativeCallError("llama_sampler_apply", "no token was selected; please report this")
        size = ctypes.sizeof(llama.TokenData)
        return int(llama.TokenData.from_address(array.data + array.selected * size).id)

    @staticmethod
    def _apply(sampler: int | None, candidates: NDArray[np.void]) -> llama.TokenDataArray:
        """Run a sampler over candidates in place."""
        array = llama.TokenDataArray(candidates.ctypes.data, len(candidates), -1, False)
        llama.llama_sampler_apply(sampler, ctypes.byref(array))  # type: ignore[arg-type]
        return array

    def close(self) -> None:
        """Free the samplers."""
        self._resources.close()


def _samplers(n_vocab: int, options: SamplingOptions) -> list[int]:
    """The chain's samplers in llama.cpp's usual order."""
    samplers = []
    if options.repeat_penalty != 1:
        penalties = (n_vocab, options.repeat_last_tokens, options.repeat_penalty, 0.0, 0.0)
        samplers.append(llama.llama_sampler_init_penalties(*penalties))
    if options.temperature == 0:
        return [*samplers, llama.llama_sampler_init_greedy()]
    if options.top_k:
        samplers.append(llama.llama_sampler_init_top_k(options.top_k))
    if options.top_p < 1:
        samplers.append(llama.llama_sampler_init_top_p(options.top_p, 1))
    if options.min_p > 0:
        samplers.append(llama.llama_sampler_init_min_p(options.min_p, 1))
    return [
        *samplers,
        llama.llama_sampler_init_temp(options.temperature),
        llama.llama_sampler_init_dist(options.seed),
    ]
