"""Which KV rows can be used again, and the contexts that hold them.

A prompt is a row of *cells*, one per row of the KV cache: the token id, or for a row of a medium a
negative number that stands for its content and its place in it. Two prompts share KV rows as far
as their cells agree, also when they part in the middle of a picture. Contexts are kept apart by
what else KV rows depend on: the adapter and the rope regime.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import DeviceError
from app.runtime.language.context import LanguageContext
from app.runtime.language.model import padded
from app.runtime.messages import Audio, Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from app.runtime.language.context import CancelFlag, ContextOptions
    from app.runtime.language.model import LanguageModel
    from app.runtime.prompt import Prompt

_logger = logging.getLogger("app.runtime.kv")

_ROW_BITS = 24  # rows of one medium: 16.7 million, two weeks of sound
_FIRST_CAPACITY_TOKENS = 1024
Cells = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of cells: token ids, or all rows of one medium."""

    begin: int
    end: int
    medium: Image | Audio | None


@dataclass(frozen=True, slots=True)
class CellPrompt:
    """A prompt, cell by cell.

    Attributes:
        cells: int64, shape (n_tokens,).
        spans: what the cells are, in order, without gaps.
    """

    cells: Cells
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.cells)

    def media(self, kind: type[Image] | type[Audio]) -> list[Span]:
        """Spans of pictures or of sounds."""
        return [span for span in self.spans if isinstance(span.medium, kind)]

    def expanded_ids(self, image_id: int, audio_id: int) -> NDArray[np.int32]:
        """Token ids with one placeholder per media row, int32, shape (n_tokens,)."""
        ids = self.cells.copy()
        for kind, placeholder in ((Image, image_id), (Audio, audio_id)):
            for span in self.media(kind):
                ids[span.begin : span.end] = placeholder
        return ids.astype(np.int32)

    def extended(self, ids: list[int]) -> CellPrompt:
        """This prompt followed by token ids."""
        if not ids:
            return self
        cells = np.concatenate([self.cells, np.array(ids, np.int64)])
        return CellPrompt(cells, (*self.spans, Span(len(self), len(cells), None)))

    def pieces(self, begin: int, end: int, max_rows: int) -> Iterator[Span]:
        """Cells [begin, end) in stretches of one kind, each at most ``max_rows`` long."""
        for span in self.spans:
            first, last = max(begin, span.begin), min(end, span.end)
            for start in range(first, last, max_rows):
                yield Span(start, min(start + max_rows, last), span.medium)


class CellMaker:
    """Gives every medium seen its number; one per session, so that numbers never collide."""

    def __init__(self, count_rows: Callable[[Image | Audio], int]) -> None:
        self._count_rows = count_rows
        self._numbers: dict[tuple[type, str], tuple[int, int]] = {}

    def make(self, prompt: Prompt) -> CellPrompt:
        """The cells of a prompt; the errors are those of counting a medium's rows."""
        parts: list[Cells] = [np.zeros(0, np.int64)]
        spans: list[Span] = []
        position = 0
        for segment in prompt.segments:
            is_text = isinstance(segment, list)
            part = np.array(segment, np.int64) if isinstance(segment, list) else self._media_cells(segment)
            spans.append(Span(position, position + len(part), None if is_text else segment))  # type: ignore[arg-type]
            parts.append(part)
            position += len(part)
        return CellPrompt(np.concatenate(parts), tuple(spans))

    def _media_cells(self, medium: Image | Audio) -> Cells:
        key = (type(medium), medium.content_hash)
        if key not in self._numbers:
            self._numbers[key] = (len(self._numbers) + 1, self._count_rows(medium))
        number, n_rows = self._numbers[key]
        return -(number << _ROW_BITS) - np.arange(n_rows, dtype=np.int64)


def common_prefix(first: Cells, second: Cells) -> int:
    """How many leading cells agree."""
    n = min(len(first), len(second))
    different = np.flatnonzero(first[:n] != second[:n])
    return int(different[0]) if len(different) else n


class CachedContext:
    """A context that knows which cells its KV rows belong to.

    Attributes:
        context: the native context; its ``n_tokens`` says how many cells are valid.
    """

    def __init__(self, context: LanguageContext) -> None:
        self.context = context
        self._cells = np.zeros(context.capacity_tokens, np.int64)

    @property
    def cells(self) -> Cells:
        """Cells the KV cache holds, a view."""
        return self._cells[: self.context.n_tokens]

    def keep_common(self, wanted: Cells, at_most: int) -> int:
        """Forget all but the rows shared with ``wanted``, at most so many; returns their number."""
        kept = min(common_prefix(self.cells, wanted), at_most)
        self.context.forget(kept)
        return kept

    def decode(self, rows: NDArray[np.int32] | NDArray[np.float32], cells: Cells, n_outputs: int = 0) -> None:
        """Append rows whose cells are ``cells``; errors and arguments as LanguageContext.decode."""
        begin = self.context.n_tokens
        self._cells[begin : begin + len(cells)] = cells
        self.context.decode(rows, n_outputs)

    def decode_token(self, token: int) -> None:
        """Append one token and compute its logits; errors as LanguageContext.decode."""
        begin = self.context.n_tokens
        if begin < len(self._cells):
            self._cells[begin] = token
        self.context.decode_token(token)

    def take_over(self, other: CachedContext) -> None:
        """Copy all rows of a smaller context of the same kind."""
        self.context.copy_rows_from(other.context)
        self._cells[: other.context.n_tokens] = other.cells


class ContextPool:
    """The contexts of a session, one per adapter and rope regime, few at a time.

    They start small and are enlarged, rows and all, when a conversation outgrows them.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: ContextOptions,
        cancel: CancelFlag,
        *,
        limit_tokens: int,
        max_contexts: int,
    ) -> None:
        """Remember how to make contexts.

        Args:
            model: the weights.
            options: how to compute.
            cancel: flag that stops a computation.
            limit_tokens: the longest conversation.
            max_contexts: how many to keep; the least recently used goes first.
        """
        self._model, self._options, self._cancel = model, options, cancel
        self._limit_tokens, self._max_contexts = limit_tokens, max_contexts
        self._contexts: OrderedDict[tuple[str | None, bool], CachedContext] = OrderedDict()

    def get(self, adapter: str | None, *, long: bool, n_tokens: int) -> CachedContext:
        """The context of this adapter and regime, with room for ``n_tokens``.

        Raises:
            DeviceError: there is not enough memory even after all others were closed.
            ModelFormatError: the adapter is missing or does not fit.
        """
        key = (adapter, long)
        found = self._contexts.get(key)
        if found is None or found.context.capacity_tokens < n_tokens:
            found = self._enlarged(key, found, n_tokens)
        self._contexts[key] = found
        self._contexts.move_to_end(key)
        return found

    def _enlarged(self, key: tuple[str | None, bool], old: CachedContext | None, n_tokens: int) -> CachedContext:
        if old is None:
            self._evict(self._max_contexts - 1)
        new = CachedContext(self._create(key, self._capacity(n_tokens, long=key[1])))
        if old is not None:
            self._move_rows(old, new)
        return new

    def _move_rows(self, old: CachedContext, new: CachedContext) -> None:
        try:
            new.take_over(old)
        except BaseException:
            new.context.close()
            raise
        old.context.close()

    def _capacity(self, n_tokens: int, *, long: bool) -> int:
        """Room to grow in, but never across the length where llama.cpp changes the regime (see RopeLengths)."""
        border = self._model.lengths.padded_original_tokens
        roomy = max(_FIRST_CAPACITY_TOKENS, 1 << (n_tokens + n_tokens // 4).bit_length())
        wanted = padded(max(n_tokens, min(roomy, self._limit_tokens)))
        return max(wanted, border + 1) if long else min(wanted, border)

    def _create(self, key: tuple[str | None, bool], capacity: int) -> LanguageContext:
        """A new context; when memory runs out, at the price of the least recently used ones."""
        while True:
            try:
                return LanguageContext(self._model, capacity, self._options, self._cancel, key[0])
            except DeviceError:
                others = [other for other in self._contexts if other != key]
                if not others:
                    raise
                self._contexts.pop(others[0]).context.close()

    def _evict(self, n_kept: int) -> None:
        while len(self._contexts) > max(0, n_kept):
            (adapter, long), cached = self._contexts.popitem(last=False)
            _logger.debug("closing the context of adapter %s, long=%s", adapter, long)
            cached.context.close()

    @property
    def native_s(self) -> float:
        """Time the open contexts spent inside llama_decode."""
        return sum(cached.context.native_s for cached in self._contexts.values())

    def close(self) -> None:
        """Close every context."""
        self._evict(0)
