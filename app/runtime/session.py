"""A conversation with the model: prompts in, events out, and as little computed twice as possible.

Every call takes the whole conversation; what a call computes is a function of that alone. What
earlier calls left in the KV caches and the encoder cache only saves time (see kv_prefix and
media_cache).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.common.closing import Closing
from app.common.errors import Cancelled
from app.runtime.call_gate import CallGate
from app.runtime.events import (
    Finished,
    GenerateOptions,
    PrefillProgress,
    PrefillStats,
    SessionOptions,
    Stats,
    TokenText,
    TurnsDropped,
)
from app.runtime.kv_prefix import CellMaker, ContextPool
from app.runtime.language.context import CancelFlag
from app.runtime.language.sampling import Sampler
from app.runtime.limits import drop_oldest_turns, overflow_error
from app.runtime.messages import Audio, Image
from app.runtime.prompt import Mode, PromptBuilder, mode_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from app.runtime.events import Event, FinishReason
    from app.runtime.kv_prefix import CachedContext, CellPrompt, Span
    from app.runtime.media_cache import Projector
    from app.runtime.messages import Message
    from app.runtime.model import Model


@dataclass(slots=True)
class _Work:
    """A prompt on its way through the model.

    Attributes:
        prompt: its cells; answer tokens are added as they are decoded.
        mode: of its media.
        context: where its KV rows are.
        n_cached: rows that were there before.
    """

    prompt: CellPrompt
    mode: Mode
    context: CachedContext
    n_cached: int = 0


class Session(Closing):
    """Answers, prefill-ahead and logits for one user of a model.

    Threads: one at a time, but for :meth:`cancel`, which any thread may call.
    """

    def __init__(self, model: Model, options: SessionOptions | None = None) -> None:
        """Set up; contexts are made when first needed."""
        self._model = model
        self._options = options or SessionOptions()
        self._flag = CancelFlag()
        self._gate = CallGate(self._flag)
        self._prompts = PromptBuilder(model.tokenizer, model.token_ids)
        self._cells = CellMaker(model.media.count)
        self.limit_tokens = min(
            self._options.context_tokens or model.context_tokens, model.language.lengths.context_tokens
        )
        self._pool = ContextPool(
            model.language,
            replace(model.context_options, chunk_tokens=self._options.chunk_tokens),
            self._flag,
            limit_tokens=self.limit_tokens,
            max_contexts=self._options.max_contexts,
        )

    def cancel(self) -> None:
        """Stop the call that is running, or the answer that was asked for but not begun.

        Takes effect within one step of the native graph on the CPU, else within one chunk or token.
        """
        self._gate.cancel()

    def prefill(
        self,
        messages: Sequence[Message],
        *,
        open_turn: bool = True,
        coming: Sequence[type[Image] | type[Audio]] = (),
    ) -> PrefillStats:
        """Compute what is known of a prompt before it is complete.

        Args:
            messages: the conversation so far.
            open_turn: the last message may still grow.
            coming: media that are on their way (a recording that has begun): they decide the mode,
                without them the work would be done under another adapter.

        Raises:
            Cancelled: another thread asked for it; what was computed stays.
            ContextOverflowError: it does not fit.
            HearseeError: as :meth:`generate`.
        """
        start = time.perf_counter()
        with self._gate.enter(self._gate.ticket()):
            cells, mode, _ = self._fit(messages, 0, open_turn=open_turn)
            work = self._work(cells, mode.with_media(images=Image in coming, audios=Audio in coming))
            for _ in self._compute(work, len(work.prompt)):
                pass
            return self._prefill_stats(work, time.perf_counter() - start)

    def generate(self, messages: Sequence[Message], options: GenerateOptions | None = None) -> Iterator[Event]:
        """Answer a conversation.

        Args:
            messages: the whole conversation, the question last.
            options: length and sampling.

        Returns:
            Events: perhaps TurnsDropped, PrefillProgress per chunk, TokenText per piece of text, and
            Finished as the last one, also after :meth:`cancel`. Closing the iterator ends the answer.

        Raises:
            ContextOverflowError: the conversation does not fit.
            MediaError: a picture or sound cannot be encoded.
            ConfigError: a message or an option is not allowed.
            ModelFormatError: the model lacks a part or its parts do not fit.
            NativeCallError: a computation failed.
        """
        return self._generate(messages, options or GenerateOptions(), self._gate.ticket())

    def _generate(self, messages: Sequence[Message], options: GenerateOptions, ticket: int) -> Generator[Event]:
        start = time.perf_counter()
        with self._gate.enter(ticket), Sampler(self._model.language, options.sampling) as sampler:
            cells, mode, dropped = self._fit(messages, options.max_tokens)
            if dropped:
                yield dropped
            work = self._work(cells, mode)
            n_prompt = len(work.prompt)
            try:
                yield from self._compute(work, n_prompt - 1)
            except Cancelled:
                yield Finished(self._stats(self._prefill_stats(work, time.perf_counter() - start), "cancelled"))
                return
            prefill = self._prefill_stats(work, time.perf_counter() - start)
            yield from self._decode(work, sampler, min(options.max_tokens, self.limit_tokens - n_prompt), prefill)

    def _decode(self, work: _Work, sampler: Sampler, max_tokens: int, prefill: PrefillStats) -> Generator[Event]:
        """The answer, token by token, from a context that has the prompt's logits."""
        stream = self._model.tokenizer.stream()
        stops = self._model.stop_tokens
        ids: list[int] = []
        reason: FinishReason = "length"
        first_at = start = time.perf_counter()
        try:
            while len(ids) < max_tokens:
                token = sampler.sample(work.context.context)
                if not ids:
                    first_at = time.perf_counter()
                if token in stops:
                    reason = "stop"
                    break
                ids.append(token)
                text = stream.push(token)
                if text:
                    yield TokenText(text)
                self._flag.check()
                if len(ids) < max_tokens:
                    yield from self._append(work, token)
        except Cancelled:
            reason = "cancelled"
        ended_at = time.perf_counter()
        rest = stream.finish()
        if rest:
            yield TokenText(rest)
        ttft_s = prefill.elapsed_s + first_at - start
        yield Finished(self._stats(prefill, reason, len(ids), ttft_s, ended_at - first_at))

    def _append(self, work: _Work, token: int) -> Generator[Event]:
        """Decode one token; past the original length the whole sequence moves to the long factors (phi4mm 1.3)."""
        cached = work.context
        n_tokens = cached.context.n_tokens + 1
        long = self._model.language.lengths.is_long(n_tokens)
        crossing = long and not self._model.language.lengths.is_long(n_tokens - 1)
        if not crossing and n_tokens <= cached.context.capacity_tokens:
            cached.decode_token(token)
            return
        if not crossing:
            work.context = self._pool.get(work.mode.adapter, long=long, n_tokens=n_tokens)
            work.context.decode_token(token)
            return
        answer = [*map(int, cached.cells[len(work.prompt) :]), token]
        longer = self._work(work.prompt.extended(answer), work.mode)
        yield from self._compute(longer, n_tokens - 1)
        work.context = longer.context

    def logits(
        self, messages: Sequence[Message], answer_ids: Sequence[int] = ()
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Teacher forcing: what the model expects at every place of a given answer.

        Args:
            messages: the conversation, the question last.
            answer_ids: tokens of the answer.

        Returns:
            Token ids, int32, shape (n_prompt + n_answer,), with one placeholder per media row; and
            logits, float32, shape (n_answer + 1, n_vocab): those that predict each answer token,
            and those after the last.

        Raises:
            HearseeError: as :meth:`generate`; a conversation is never shortened here, and its limit is
                the model's, not what is offered to users.
            Cancelled: another thread asked for it.
        """
        with self._gate.enter(self._gate.ticket()):
            cells, mode = self._make(messages)
            n_prompt = len(cells)
            limit_tokens = self._model.language.lengths.context_tokens
            if n_prompt + len(answer_ids) > limit_tokens:
                raise overflow_error(n_prompt + len(answer_ids), limit_tokens)
            work = self._work(cells.extended(list(answer_ids)), mode)
            logits: list[NDArray[np.float32]] = []
            for _ in self._compute(work, n_prompt - 1, logits):
                pass
            ids = self._model.token_ids
            return work.prompt.expanded_ids(ids.image, ids.audio), np.concatenate(logits)

    def media_rows(self, messages: Sequence[Message], kind: type[Image] | type[Audio]) -> NDArray[np.float32]:
        """Rows of all pictures or all sounds as the language model gets them, in their order.

        Returns:
            float32, shape (n_rows, row_length); no rows where there are no such media.

        Raises:
            HearseeError: as :meth:`generate`.
        """
        with self._gate.enter(self._gate.ticket()):
            projector = _projector(mode_of(messages))
            media = [part for message in messages for part in message.parts if isinstance(part, kind)]
            rows = [self._model.media.rows(medium, projector, self._flag.is_set) for medium in media]
            return np.concatenate([np.zeros((0, self._model.language.n_embd), np.float32), *rows])

    def _fit(
        self, messages: Sequence[Message], max_tokens: int, *, open_turn: bool = False
    ) -> tuple[CellPrompt, Mode, TurnsDropped | None]:
        """The prompt with room for the start of an answer: an error, or fewer turns, if not all of it fits."""
        reserve = min(max_tokens, self._options.reserve_tokens, self.limit_tokens // 8)
        cells, mode = self._make(messages, open_turn=open_turn)
        needed = len(cells) + reserve
        if needed <= self.limit_tokens:
            return cells, mode, None
        if self._options.overflow == "error":
            raise overflow_error(needed, self.limit_tokens)
        kept, dropped = drop_oldest_turns(messages, self._message_tokens, self.limit_tokens - reserve - 1)
        return *self._make(kept, open_turn=open_turn), dropped

    def _make(self, messages: Sequence[Message], *, open_turn: bool = False) -> tuple[CellPrompt, Mode]:
        prompt = self._prompts.build(messages, open_turn=open_turn)
        return self._cells.make(prompt), prompt.mode

    def _message_tokens(self, message: Message) -> int:
        """Tokens of one complete message, its tags included."""
        return len(self._make([message])[0]) - 1  # without the request for an answer

    def _work(self, cells: CellPrompt, mode: Mode) -> _Work:
        return _Work(cells, mode, self._context_for(len(cells), mode))

    def _context_for(self, n_tokens: int, mode: Mode) -> CachedContext:
        long = self._model.language.lengths.is_long(n_tokens)
        return self._pool.get(mode.adapter, long=long, n_tokens=n_tokens)

    def _compute(
        self, work: _Work, first_output: int, logits: list[NDArray[np.float32]] | None = None
    ) -> Generator[PrefillProgress]:
        """Bring the context to hold the prompt; rows from ``first_output`` on get logits.

        Rows that the context shares with the prompt are kept. The logits stay in the context, of
        the last row, or are collected in ``logits``.
        """
        prompt, cached = work.prompt, work.context
        n_total = len(prompt)
        work.n_cached = cached.keep_common(prompt.cells, min(n_total, first_output) if self._options.reuse else 0)
        for span in _steps(prompt, work.n_cached, first_output, cached):
            self._flag.check()
            yield from self._announce(span, work)
            n_outputs = span.end - max(span.begin, min(first_output, span.end))
            cached.decode(self._rows(span, work), prompt.cells[span.begin : span.end], n_outputs)
            if logits is not None and n_outputs:
                logits.append(cached.context.logits(n_outputs).copy())
            yield PrefillProgress(span.end - work.n_cached, n_total - work.n_cached, "prefill")

    def _announce(self, span: Span, work: _Work) -> Iterator[PrefillProgress]:
        """Say that a medium is about to be encoded."""
        if span.medium is not None and not self._model.media.has(span.medium, _projector(work.mode)):
            yield PrefillProgress(span.begin - work.n_cached, len(work.prompt) - work.n_cached, "encode")

    def _rows(self, span: Span, work: _Work) -> NDArray[np.int32] | NDArray[np.float32]:
        if span.medium is None:
            return work.prompt.cells[span.begin : span.end].astype(np.int32)
        begin = next(whole.begin for whole in work.prompt.spans if whole.begin <= span.begin < whole.end)
        rows = self._model.media.rows(span.medium, _projector(work.mode), self._flag.is_set)
        return rows[span.begin - begin : span.end - begin]

    def _prefill_stats(self, work: _Work, elapsed_s: float) -> PrefillStats:
        def rows(kind: type[Image] | type[Audio]) -> int:
            return sum(span.end - span.begin for span in work.prompt.media(kind))

        return PrefillStats(
            prompt_tokens=len(work.prompt),
            cached_tokens=work.n_cached,
            image_tokens=rows(Image),
            audio_tokens=rows(Audio),
            mode=work.mode.value,
            device=self._model.device_name,
            elapsed_s=elapsed_s,
        )

    @staticmethod
    def _stats(
        prefill: PrefillStats,
        reason: FinishReason,
        n_answer: int = 0,
        ttft_s: float | None = None,
        decode_s: float = 0.0,
    ) -> Stats:
        return Stats(
            prompt_tokens=prefill.prompt_tokens,
            cached_tokens=prefill.cached_tokens,
            image_tokens=prefill.image_tokens,
            audio_tokens=prefill.audio_tokens,
            answer_tokens=n_answer,
            ttft_ms=None if ttft_s is None else ttft_s * 1e3,
            prefill_tokens_per_s=prefill.tokens_per_s,
            decode_tokens_per_s=(n_answer - 1) / decode_s if n_answer > 1 and decode_s > 0 else 0.0,
            finish_reason=reason,
            mode=prefill.mode,
            device=prefill.device,
        )

    def last_rows(self, messages: Sequence[Message], n_rows: int) -> tuple[CachedContext, NDArray[np.int32]]:
        """The last rows of a prompt that was computed: the context rewound to before them, and their token ids.

        For benches: what computing just these rows costs. Errors are those of :meth:`generate`.
        """
        with self._gate.enter(self._gate.ticket()):
            cells, mode = self._make(messages)
            work = self._work(cells, mode)
            work.context.keep_common(cells.cells, len(cells) - n_rows)
            return work.context, cells.cells[len(cells) - n_rows :].astype(np.int32)

    @property
    def native_s(self) -> float:
        """Time spent inside llama_decode by the contexts that are open; the rest of an answer's time is ours."""
        return self._pool.native_s

    def close(self) -> None:
        """Free the contexts."""
        self._pool.close()


def _projector(mode: Mode) -> Projector:
    return "vision" if mode is Mode.VISION_SPEECH else "speech"


def _steps(prompt: CellPrompt, n_cached: int, first_output: int, cached: CachedContext) -> Iterator[Span]:
    """What to decode at once: chunks of one kind of row, with no more rows of logits than there is room for."""
    context = cached.context
    for piece in prompt.pieces(n_cached, len(prompt), context.chunk_tokens):
        border = max(piece.begin, first_output)
        if piece.end - border <= context.output_rows:
            yield piece
            continue
        yield from prompt.pieces(piece.begin, border + context.output_rows, context.chunk_tokens)
        yield from prompt.pieces(border + context.output_rows, piece.end, context.output_rows)
