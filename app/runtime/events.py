"""What goes into and comes out of a session: options, events, figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.runtime.language.sampling import SamplingOptions

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session behaves.

    Attributes:
        context_tokens: the longest conversation; None means what the model offers.
        overflow: what to do when a conversation is longer: raise ContextOverflowError, or drop the
            oldest whole turns and say so.
        reserve_tokens: room kept for the answer.
        chunk_tokens: prompt rows computed at once; progress and cancel see every chunk.
        max_contexts: KV caches kept, one per adapter and rope regime.
        reuse: use KV rows of earlier prompts again.
    """

    context_tokens: int | None = None
    overflow: Literal["error", "drop_oldest"] = "error"
    reserve_tokens: int = 64
    chunk_tokens: int = 256
    max_contexts: int = 3
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """How one answer is made.

    Attributes:
        max_tokens: the longest answer.
        sampling: how tokens are chosen; greedy by default.
    """

    max_tokens: int = 1000
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """A part of the prompt was computed.

    Attributes:
        done_tokens: of the tokens that have to be computed.
        total_tokens: that have to be computed.
        stage: "encode" before a picture or sound is encoded, else "prefill".
    """

    done_tokens: int
    total_tokens: int
    stage: Literal["encode", "prefill"]


@dataclass(frozen=True, slots=True)
class TurnsDropped:
    """The conversation was too long: its oldest turns were left out of the prompt."""

    n_turns: int
    n_messages: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class TokenText:
    """A piece of the answer, whole characters only."""

    text: str


@dataclass(frozen=True, slots=True)
class PrefillStats:
    """What computing a prompt cost.

    Attributes:
        prompt_tokens: rows of the prompt.
        cached_tokens: of these, KV rows that were there already.
        image_tokens: of these, rows of pictures.
        audio_tokens: of these, rows of sounds.
        mode: "text", "speech", "vision" or "vision_speech".
        device: what computed.
        elapsed_s: wall time, encoders included.
    """

    prompt_tokens: int
    cached_tokens: int
    image_tokens: int
    audio_tokens: int
    mode: str
    device: str
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """Computed rows per second, 0 when there were none."""
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.elapsed_s if computed and self.elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one answer.

    Attributes:
        prompt_tokens: rows of the prompt.
        cached_tokens: of these, KV rows that were there already.
        image_tokens: of these, rows of pictures.
        audio_tokens: of these, rows of sounds.
        answer_tokens: tokens of the answer, without the one that ended it.
        ttft_ms: from the call to the first token, encoders included; None if there was none.
        prefill_tokens_per_s: computed prompt rows per second, encoders included.
        decode_tokens_per_s: after the first token; 0 for answers of one token.
        finish_reason: "stop" at an end token, "length" at a limit, "cancelled".
        mode: "text", "speech", "vision" or "vision_speech".
        device: what computed.
    """

    prompt_tokens: int
    cached_tokens: int
    image_tokens: int
    audio_tokens: int
    answer_tokens: int
    ttft_ms: float | None
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    finish_reason: FinishReason
    mode: str
    device: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of an answer."""

    stats: Stats


Event = PrefillProgress | TurnsDropped | TokenText | Finished
