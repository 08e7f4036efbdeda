"""How fast pictures and sound are encoded, beside PyTorch float32 eager in the same run.

Random weights at the real model's widths, made on first use in the cache directory. ``--full``
runs all layers; otherwise a few, and the figures ``vision_layers`` and ``audio_layers`` say how
many. Without PyTorch there are times but no ratios.
"""

from __future__ import annotations

import time
from importlib import util
from typing import TYPE_CHECKING

import numpy as np

from app.bench.random_encoders import AUDIO, TYPES, VISION, audio_file, vision_file
from app.common.paths import cache_dir
from app.runtime.audio.log_mel import log_mel
from app.runtime.encoders.audio import AudioEncoder
from app.runtime.encoders.backend import Backend
from app.runtime.encoders.vision import VisionEncoder
from app.runtime.vision.tiling import tile_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Encode = Callable[[], NDArray[np.float32]]

_FEW_LAYERS = 4
_RUNS = 3  # of each peer, in turn; the fastest counts
_PICTURES = {"vision_448": (448, 448), "vision_1080p": (1080, 1920)}
_CLIPS_S = {"audio_10s": 10, "audio_40s": 40}


def run(*, full: bool, say: Callable[[str], None]) -> dict[str, float]:
    """Measure everything.

    Args:
        full: all layers of the real model (6 GB in the cache directory, some minutes).
        say: told what is measured now.
    """
    n_vision, n_audio = (VISION.block_count, AUDIO.block_count) if full else (_FEW_LAYERS, _FEW_LAYERS)
    figures = {"vision_layers": float(n_vision), "audio_layers": float(n_audio)}
    figures |= front_end_figures()
    directory = cache_dir() / "bench"
    with Backend("cpu") as backend:
        figures["threads"] = float(backend.n_threads)
        say(f"audio encoder, {n_audio} layers")
        figures |= _audio_figures(directory, n_audio, backend)
        say(f"picture encoder, {n_vision} layers")
        figures |= _vision_figures(directory, n_vision, backend)
    return figures


def front_end_figures() -> dict[str, float]:
    """Log-mel of 30 s of sound, and tiling of a photo of 12 megapixels."""
    samples = _noise(30)
    photo = np.random.default_rng(0).integers(0, 256, (3024, 4032, 3), dtype=np.uint8)
    return {
        "log_mel_30s_ms": 1000 * _fastest(lambda: log_mel(samples, AUDIO.sample_rate_hz, AUDIO)),
        "tile_12mp_ms": 1000 * _fastest(lambda: tile_image(photo, VISION)),
    }


def _noise(seconds: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, seconds * AUDIO.sample_rate_hz).astype(np.float32)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest run after a first that does not count."""
    work()
    return min(_seconds(work) for _ in range(_RUNS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _audio_figures(directory: Path, n_blocks: int, backend: Backend) -> dict[str, float]:
    features = {name: log_mel(_noise(seconds), AUDIO.sample_rate_hz, AUDIO) for name, seconds in _CLIPS_S.items()}
    encoders = {kind: AudioEncoder(audio_file(directory, kind, n_blocks), backend) for kind in TYPES}
    figures: dict[str, float] = {}
    try:
        torch_encode = _torch_peer("TorchAudio", audio_file(directory, "f32", n_blocks), backend.n_threads)
        for name, part in features.items():
            work = {kind: _bound(_audio_rows, encoder, part) for kind, encoder in encoders.items()}
            figures |= _compare(name, work, torch_encode and _bound(torch_encode, part))
    finally:
        for encoder in encoders.values():
            encoder.close()
    return figures


def _audio_rows(encoder: AudioEncoder, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return encoder.project(encoder.encode(features), "speech")


def _vision_figures(directory: Path, n_blocks: int, backend: Backend) -> dict[str, float]:
    rng = np.random.default_rng(0)
    tiles = {
        name: tile_image(rng.integers(0, 256, (*size, 3), dtype=np.uint8), VISION) for name, size in _PICTURES.items()
    }
    encoders = {kind: VisionEncoder(vision_file(directory, kind, n_blocks), backend) for kind in TYPES}
    figures: dict[str, float] = {}
    try:
        torch_encode = _torch_peer("TorchVision", vision_file(directory, "f32", n_blocks), backend.n_threads)
        for name, part in tiles.items():
            work = {kind: _bound(encoder.encode, part) for kind, encoder in encoders.items()}
            figures |= _compare(name, work, torch_encode and _bound(torch_encode, part))
    finally:
        for encoder in encoders.values():
            encoder.close()
    return figures


def _bound(function: Callable[..., NDArray[np.float32]], *arguments: object) -> Encode:
    return lambda: function(*arguments)


def _torch_peer(name: str, path: Path, n_threads: int) -> Callable[..., NDArray[np.float32]] | None:
    """The peer's encode function on as many threads, or None without PyTorch."""
    if util.find_spec("torch") is None:
        return None
    import torch

    from app.bench import torch_peers

    torch.set_num_threads(n_threads)
    peer = getattr(torch_peers, name)(path)
    encode: Callable[..., NDArray[np.float32]] = peer.encode
    return encode


def _compare(name: str, work: dict[str, Encode], peer: Encode | None) -> dict[str, float]:
    """Times in turn; relative L2 distance and speed-up where there is a peer."""
    everyone = {**work, **({"torch": peer} if peer else {})}
    rows = {kind: encode() for kind, encode in everyone.items()}  # warms up as well
    seconds = dict.fromkeys(everyone, float("inf"))
    for _ in range(_RUNS):
        for kind, encode in everyone.items():
            seconds[kind] = min(seconds[kind], _seconds(encode))
    figures = {f"{name}_{kind}_s": value for kind, value in seconds.items()}
    if peer is not None:
        for kind in work:
            figures[f"{name}_{kind}_speedup_vs_torch_fp32"] = seconds["torch"] / seconds[kind]
            distance = np.linalg.norm(rows[kind] - rows["torch"]) / np.linalg.norm(rows["torch"])
            figures[f"{name}_{kind}_distance_to_torch_fp32"] = float(distance)
    return figures
