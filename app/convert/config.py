"""What a checkpoint's configuration says, whichever of the two layouts wrote it.

:func:`app.convert.config_files.read_config` fills these; every later step derives its shapes
from here and nothing is taken from the published model's sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Layout = Literal["original", "native"]
AdapterName = Literal["vision", "speech"]
ADAPTER_NAMES: tuple[AdapterName, ...] = ("vision", "speech")

BLOCK_FRAMES = 500
"""Encoder frames that attend to each other; a constant of the published code (phi4mm 4.5)."""


MAX_LAYERS = 1024
MAX_VOCABULARY = 1 << 22


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding (phi4mm 1.2, 1.3).

    Attributes:
        theta: base of the frequencies.
        dimensions: rotated dimensions of each head, even.
        short_factors, long_factors: ``dimensions / 2`` divisors each, or None without longrope.
        original_length: tokens up to which the short factors hold.
        attention_factor: scale of cosine and sine.
    """

    theta: float
    dimensions: int
    short_factors: tuple[float, ...] | None
    long_factors: tuple[float, ...] | None
    original_length: int
    attention_factor: float


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """The decoder (phi4mm 1)."""

    vocab_size: int
    embedding_length: int
    feed_forward_length: int
    block_count: int
    head_count: int
    head_count_kv: int
    head_length: int
    rms_norm_epsilon: float
    context_length: int
    tied: bool
    rope: RopeConfig

    @property
    def qkv_rows(self) -> int:
        """Rows of the fused query, key and value matrix."""
        return (self.head_count + 2 * self.head_count_kv) * self.head_length


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The picture tower and how pictures are cut (phi4mm 3).

    ``layer_count`` layers are in the file, ``block_count`` of them run.
    """

    embedding_length: int
    feed_forward_length: int
    layer_count: int
    block_count: int
    head_count: int
    layer_norm_epsilon: float
    crop_size: int
    patch_size: int
    position_grid: int
    max_crops: int
    pixel_mean: float
    pixel_std: float


@dataclass(frozen=True, slots=True)
class AudioConfig:
    """The sound encoder and its log-mel front end (phi4mm 4)."""

    embedding_length: int
    feed_forward_length: int
    block_count: int
    head_count: int
    conv_channels: int
    kernel_size: int
    time_reduction: int
    bias_max_distance: int
    mel_bins: int
    layer_norm_epsilon: float = 1e-5
    block_frames: int = BLOCK_FRAMES
    mel_high_hz: float = 7690.0
    sample_rate_hz: int = 16000
    window_length: int = 400
    hop_length: int = 160
    n_fft: int = 512
    preemphasis: float = 0.97

    @property
    def subsampled_mel_bins(self) -> int:
        """Frequency bins left after the three stride-two convolutions."""
        bins = self.mel_bins
        for _ in range(3):
            bins = (bins + 1) // 2
        return bins


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """One low-rank adapter: ΔW = alpha / rank · B·A."""

    rank: int
    alpha: float


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Everything the configuration files say that conversion needs.

    Attributes:
        layout: which of the two layouts the folder has.
        image_token_id, audio_token_id: stated ids of the placeholders, or None when only the tokenizer knows.
        eos_token_ids: end tokens of ``generation_config.json``, or of ``config.json`` without it.
    """

    layout: Layout
    language: LanguageConfig
    vision: VisionConfig
    audio: AudioConfig
    adapters: Mapping[AdapterName, AdapterConfig]
    image_token_id: int | None = None
    audio_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = field(default=())
