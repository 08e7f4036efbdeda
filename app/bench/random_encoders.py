"""Random encoder files at the real model's size, for speed: what a weight is does not change how long it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from app.convert.gguf_writer import PlannedTensor, whole, write_gguf
from app.convert.types import padded
from app.runtime.encoders.audio import ARCHITECTURE as AUDIO_ARCHITECTURE
from app.runtime.encoders.audio import audio_tensors
from app.runtime.encoders.vision import ARCHITECTURE as VISION_ARCHITECTURE
from app.runtime.encoders.vision import vision_tensors
from app.runtime.formats.ggml_types import GgmlType
from app.runtime.formats.params import AudioParams, VisionParams

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

TYPES = {"f32": GgmlType.F32, "bf16": GgmlType.BF16, "q8": GgmlType.Q8_0}

VISION = VisionParams(
    embedding_length=1152,
    feed_forward_length=4304,
    block_count=26,
    head_count=16,
    layer_norm_epsilon=1e-6,
    crop_size=448,
    patch_size=14,
    position_grid=32,
    max_crops=36,
    pixel_mean=0.5,
    pixel_std=0.5,
    projection_length=3072,
)
AUDIO = AudioParams(
    embedding_length=1024,
    feed_forward_length=1536,
    block_count=24,
    head_count=16,
    layer_norm_epsilon=1e-5,
    conv_channels=1024,
    kernel_size=3,
    time_reduction=8,
    bias_max_distance=500,
    block_frames=500,
    projection_length=3072,
    mel_bins=80,
    mel_high_hz=7690.0,
    sample_rate_hz=16000,
    window_length=400,
    hop_length=160,
    n_fft=512,
    preemphasis=0.97,
)


def vision_file(directory: Path, kind: str, n_blocks: int) -> Path:
    """A picture encoder of the published widths with ``n_blocks`` blocks; made if it is not there."""
    params = replace(VISION, block_count=n_blocks)
    stored_width = padded(params.feed_forward_length, TYPES[kind])
    vectors, matrices = vision_tensors(params, stored_width)
    return _file(directory / f"vision-{n_blocks}-{kind}.gguf", VISION_ARCHITECTURE, params, vectors, matrices)


def audio_file(directory: Path, kind: str, n_blocks: int) -> Path:
    """A sound encoder of the published widths with ``n_blocks`` blocks; made if it is not there."""
    params = replace(AUDIO, block_count=n_blocks)
    vectors, matrices = audio_tensors(params)
    return _file(directory / f"audio-{n_blocks}-{kind}.gguf", AUDIO_ARCHITECTURE, params, vectors, matrices)


def _file(
    path: Path,
    architecture: str,
    params: VisionParams | AudioParams,
    vectors: Mapping[str, tuple[int, ...]],
    matrices: Mapping[str, tuple[int, ...]],
) -> Path:
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = TYPES[path.stem.rsplit("-", 1)[1]]
    values = _RandomValues(params.feed_forward_length)
    tensors = [values.plan(name, GgmlType.F32, shape) for name, shape in vectors.items()]
    tensors += [values.plan(name, kind, shape) for name, shape in matrices.items()]
    partial = path.with_suffix(".tmp")
    write_gguf(partial, architecture, params.to_metadata(), tensors, lambda _n_bytes: None)
    partial.replace(path)
    return path


class _RandomValues:
    """Weights of unit gain; the same in every file whatever its type, and zero where a width is padded."""

    def __init__(self, feed_forward_length: int) -> None:
        self._feed_forward_length = feed_forward_length

    def plan(self, name: str, kind: GgmlType, shape: tuple[int, ...]) -> PlannedTensor:
        return whole(name, kind, shape, lambda: self._values(name, shape))

    def _values(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        true = tuple(
            self._feed_forward_length if size > self._feed_forward_length > size - 32 else size for size in shape
        )
        rng = np.random.default_rng(list(name.encode()))
        values = rng.standard_normal(true, np.float32)
        if name.endswith(("norm.weight", "ln1.weight", "ln2.weight")):
            values = 1 + np.float32(0.1) * values
        elif len(shape) == 1:
            values *= np.float32(0.1)
        else:
            values /= np.float32(np.sqrt(np.prod(true[1:])))
        return np.pad(values, [(0, size - real) for size, real in zip(shape, true, strict=True)])
