"""The sound encoder: log-mel frames to rows of the language model (phi4mm 4.5)."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

import numpy as np

from app.common.closing import Closing
from app.runtime.encoders.conformer import Conformer
from app.runtime.encoders.encoder_file import open_encoder_file
from app.runtime.encoders.layout import Layout, choose_layout
from app.runtime.encoders.projector import Projector
from app.runtime.encoders.subsampling import Subsampling
from app.runtime.encoders.weights import Weights, check_tensors
from app.runtime.formats.params import AudioParams

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from app.runtime.encoders.backend import Backend

ARCHITECTURE = "phi4mm-audio"
ProjectorName = Literal["speech", "vision"]
_PROJECTORS: tuple[ProjectorName, ...] = ("speech", "vision")


class AudioEncoder(Closing):
    """Sound to rows of the language model, in two steps; a context manager.

    Attributes:
        params: the model's dimensions.
    """

    def __init__(self, path: Path, backend: Backend, *, exact: bool = False, layout: Layout | None = None) -> None:
        """Load the weights.

        Args:
            path: audio-encoder.gguf.
            backend: where to compute; must outlive the encoder.
            exact: float32 throughout, no flash attention.
            layout: of the weights; None for the best on this device.

        Raises:
            ModelFormatError: the file is unusable.
            DeviceError: too little memory.
        """
        file, self.params = open_encoder_file(path, ARCHITECTURE, AudioParams)
        vectors, matrices = audio_tensors(self.params)
        check_tensors(file, vectors, matrices)
        self._mean, self._invstd = (file[f"a.{name}"].float32().copy() for name in ("mean", "invstd"))
        with ExitStack() as stack:
            weights = Weights(file, [*vectors, *matrices], backend, layout or choose_layout(backend, exact=exact))
            stack.callback(weights.close)
            self._subsampling = Subsampling(weights, self.params, backend, exact=exact)
            self._conformer = Conformer(weights, self.params, backend, exact=exact)
            self._projectors = {name: _projector(weights, name, backend, exact=exact) for name in _PROJECTORS}
            for part in self._parts:
                stack.callback(part.close)
            self._stack = stack.pop_all()

    def encode(self, log_mel: NDArray[np.float32], cancel: Callable[[], bool] | None = None) -> NDArray[np.float32]:
        """Frames before the projector: they do not depend on the mode.

        Args:
            log_mel: shape (n_frames, mel_bins), at least one frame.
            cancel: asked between operations; True stops.

        Returns:
            float32, shape (ceil(n_frames / 8), embedding_length).

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        if log_mel.ndim != 2 or log_mel.shape[1] != self.params.mel_bins or not len(log_mel):
            raise ValueError(f"log-mel features of shape {log_mel.shape}, not (n, {self.params.mel_bins})")
        features = ((log_mel - self._mean) * self._invstd).astype(np.float32, copy=False)
        return self._conformer.run(self._subsampling.run(features, cancel), cancel)

    def project(
        self, frames: NDArray[np.float32], projector: ProjectorName, cancel: Callable[[], bool] | None = None
    ) -> NDArray[np.float32]:
        """Rows for the language model.

        Args:
            frames: from :meth:`encode`.
            projector: "speech" without pictures in the prompt, "vision" with.
            cancel: asked between operations; True stops.

        Returns:
            float32, shape (n frames, projection_length).

        Raises:
            Cancelled: ``cancel`` said so.
            DeviceError: the device has too little memory.
            NativeCallError: the computation failed.
        """
        return self._projectors[projector].project(frames, cancel)

    @property
    def cpu_operations(self) -> Counter[str]:
        """Operations of the graphs in use that the device lacks, with counts."""
        return sum((part.cpu_operations for part in self._parts), Counter())

    @property
    def working_bytes(self) -> int:
        """Memory of the kept graphs, without the weights."""
        return sum(part.working_bytes for part in self._parts)

    @property
    def _parts(self) -> tuple[Subsampling | Conformer | Projector, ...]:
        return self._subsampling, self._conformer, *self._projectors.values()

    def close(self) -> None:
        """Free graphs and weights."""
        self._stack.close()


def _projector(weights: Weights, name: str, backend: Backend, *, exact: bool) -> Projector:
    up, down = (weights.linear(f"a.proj.{name}.{part}") for part in ("up", "down"))
    return Projector(up, down, backend, exact=exact)


def audio_tensors(params: AudioParams) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, int]]]:
    """Names and numpy shapes of the F32 tensors and of the matrices."""
    d, c, n = params.embedding_length, params.conv_channels, params.projection_length
    linears = {
        "a.sub.pw1": (c, c),
        "a.sub.pw2": (c, c),
        "a.sub.out": (d, c * params.subsampled_mel_bins),
        **{f"a.proj.{name}.up": (n, d) for name in _PROJECTORS},
        **{f"a.proj.{name}.down": (n, n) for name in _PROJECTORS},
    }
    vectors: dict[str, tuple[int, ...]] = {
        "a.mean": (params.mel_bins,),
        "a.invstd": (params.mel_bins,),
        "a.rel_bias": (2 * params.bias_max_distance, params.head_count),
    }
    for name in ("conv0", "dw1", "dw2"):
        vectors |= {f"a.sub.{name}.weight": (c, 1, 3, 3), f"a.sub.{name}.bias": (c,)}
    for index in range(params.block_count):
        block_linears, block_vectors = _block_tensors(params, f"a.blk.{index}")
        linears |= block_linears
        vectors |= block_vectors
    vectors |= {f"{name}.bias": (shape[0],) for name, shape in linears.items()}
    return vectors, {f"{name}.weight": shape for name, shape in linears.items()}


def _block_tensors(params: AudioParams, name: str) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, ...]]]:
    """Linear layers, and the other tensors, of one block."""
    d, ff = params.embedding_length, params.feed_forward_length
    linears = {
        f"{name}.attn.qkv": (3 * d, d),
        f"{name}.attn.out": (d, d),
        f"{name}.conv.glu": (2 * d, d),
        f"{name}.conv.pw1": (d, d),
        f"{name}.conv.pw2": (d, d),
        **{f"{name}.{part}.up": (2 * ff, d) for part in ("ffn1", "ffn2")},
        **{f"{name}.{part}.down": (d, ff) for part in ("ffn1", "ffn2")},
    }
    norms = ("ffn1.norm", "attn.norm", "conv.norm", "ffn2.norm", "norm")
    vectors: dict[str, tuple[int, ...]] = {
        f"{name}.{norm}.{kind}": (d,) for norm in norms for kind in ("weight", "bias")
    }
    vectors |= {f"{name}.conv.dw.weight": (d, params.kernel_size), f"{name}.conv.dw.bias": (d,)}
    return linears, vectors
