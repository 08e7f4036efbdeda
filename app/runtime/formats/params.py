"""Dimensions and constants of a model, as they stand in GGUF metadata.

One dataclass per file kind. A field ``name`` is the metadata key ``PREFIX + name``, so the
converter writes and the runtime reads from the same declaration and nothing is hard-coded
twice. Values of the published checkpoint stand in the comments (docs/runtime.md has the why).
"""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from app.common.errors import ModelFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT_VERSION = 1
FORMAT_VERSION_KEY = "hearsee.format_version"
NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class Params:
    """Base: reads and writes itself as metadata; every field is an int, float or bool."""

    PREFIX: ClassVar[str] = ""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], source: str) -> Self:
        """Read every field from ``metadata``.

        Args:
            metadata: key to Python value, as the GGUF reader gives it.
            source: file name for messages.

        Raises:
            ModelFormatError: a key is missing, of the wrong type or not finite and positive.
        """
        values = {
            f.name: _value(metadata, cls.PREFIX + f.name, f.type, source)
            for f in fields(cls)
            if f.default is MISSING or cls.PREFIX + f.name in metadata
        }
        params = cls(**values)
        params.check(source)
        return params

    def to_metadata(self) -> dict[str, int | float | bool]:
        """All fields under their metadata keys, in declaration order; those left at their default are left out."""
        values = ((f, getattr(self, f.name)) for f in fields(self))
        return {self.PREFIX + f.name: value for f, value in values if f.default is MISSING or value != f.default}

    def check(self, source: str) -> None:
        """Raise ModelFormatError when fields contradict each other."""


def _value(metadata: Mapping[str, Any], key: str, kind: object, source: str) -> int | float | bool:
    value: Any = metadata.get(key)
    if value is None:
        raise ModelFormatError(f"{source}: metadata key {key} is missing; convert the model again")
    wanted: type = {"int": int, "float": float, "bool": bool}[str(kind)]
    if wanted is float and type(value) is int:
        value = float(value)
    found = type(value)
    if found is not wanted:
        raise ModelFormatError(f"{source}: metadata key {key} is not of type {kind}")
    if wanted is not bool and not (math.isfinite(value) and 0 <= value < 2**31):
        raise ModelFormatError(f"{source}: metadata key {key} has the impossible value {value}")
    checked: int | float | bool = value
    return checked


def _require(condition: bool, source: str, message: str) -> None:
    if not condition:
        raise ModelFormatError(f"{source}: {message}; convert the model again")


@dataclass(frozen=True, slots=True)
class VisionParams(Params):
    """The picture tower, its tiling and its projector (phi4mm 3)."""

    PREFIX: ClassVar[str] = "phi4mm.vision."

    embedding_length: int  # 1152
    feed_forward_length: int  # 4304, without padding
    block_count: int  # 26: layers that run, one less than the checkpoint has
    head_count: int  # 16
    layer_norm_epsilon: float  # 1e-6
    crop_size: int  # 448 px, side of a tile
    patch_size: int  # 14 px
    position_grid: int  # 32: side of the learned position table
    max_crops: int  # 36 ("dynamic_hd"), without the global view
    pixel_mean: float  # 0.5
    pixel_std: float  # 0.5
    projection_length: int  # 3072: width of the language model

    def check(self, source: str) -> None:
        """Sizes must divide as the layout of tokens needs it."""
        _require(self.crop_size > 0 < self.patch_size, source, "crop or patch size is zero")
        _require(self.crop_size % (2 * self.patch_size) == 0, source, "crops do not hold whole 2x2 patch cells")
        _require(
            self.head_count > 0 and self.embedding_length % self.head_count == 0,
            source,
            "vision heads do not divide the width",
        )
        _require(self.position_grid > 0, source, "the position table is empty")
        _require(self.max_crops > 0 < self.block_count, source, "no crops or no vision blocks")
        _require(self.pixel_std > 0, source, "pixel_std is zero")

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of a crop (32)."""
        return self.crop_size // self.patch_size


@dataclass(frozen=True, slots=True)
class AudioParams(Params):
    """The sound encoder, its log-mel front end and its projectors (phi4mm 4)."""

    PREFIX: ClassVar[str] = "phi4mm.audio."

    embedding_length: int  # 1024
    feed_forward_length: int  # 1536
    block_count: int  # 24
    head_count: int  # 16
    layer_norm_epsilon: float  # 1e-5
    conv_channels: int  # 1024: subsampling channels
    kernel_size: int  # 3: causal depthwise kernel
    time_reduction: int  # 8
    bias_max_distance: int  # 500
    block_frames: int  # 500 encoder frames attend to each other (40 s)
    projection_length: int  # 3072: width of the language model
    mel_bins: int  # 80
    mel_high_hz: float  # 7690
    sample_rate_hz: int  # 16000
    window_length: int  # 400 samples
    hop_length: int  # 160 samples
    n_fft: int  # 512
    preemphasis: float  # 0.97

    def check(self, source: str) -> None:
        """Sizes must divide, and the subsampling is three stages of stride two."""
        _require(
            self.head_count > 0 and self.embedding_length % self.head_count == 0,
            source,
            "audio heads do not divide the width",
        )
        _require(self.time_reduction == 8, source, f"time reduction {self.time_reduction} is not the supported 8")
        _require(
            min(
                self.block_count,
                self.conv_channels,
                self.kernel_size,
                self.bias_max_distance,
                self.block_frames,
                self.mel_bins,
            )
            > 0,
            source,
            "an audio size is zero",
        )
        _require(
            self.hop_length > 0 and 1 < self.window_length <= self.n_fft,
            source,
            "log-mel window, hop and n_fft do not fit",
        )
        _require(
            self.sample_rate_hz > 0 and 0 < self.mel_high_hz <= self.sample_rate_hz / 2,
            source,
            "mel_high_hz is above half the sample rate",
        )

    @property
    def subsampled_mel_bins(self) -> int:
        """Frequency bins after three stride-two convolutions (10)."""
        bins = self.mel_bins
        for _ in range(3):
            bins = (bins + 1) // 2
        return bins


@dataclass(frozen=True, slots=True)
class TokenIds(Params):
    """Ids of the special tokens the prompt is built from (phi4mm 1.4); NO_TOKEN where a model lacks one."""

    PREFIX: ClassVar[str] = "hearsee.token."

    endoftext: int  # 199999, also the second stop token
    image: int  # 200010, placeholder
    audio: int  # 200011, placeholder
    assistant: int  # 200019
    end: int  # 200020, the first stop token
    user: int  # 200021
    system: int = NO_TOKEN  # 200022
    tool: int = NO_TOKEN  # 200023, opens tool descriptions
    tool_end: int = NO_TOKEN  # 200024
