"""How fast pictures and sound are encoded, beside PyTorch float32 eager in the same run.

Random weights at the real model's widths, made on first use in the cache directory. ``--full``
runs all layers; otherwise a few, and the figures ``vision_layers`` and ``audio_layers`` say how
many. Without PyTorch there are times but no ratios.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
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
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Encode = Callable[[], NDArray[np.float32]]

_FEW_LAYERS = 4
_RUNS = 3  # of each peer, in turn; the fastest counts
_SLOW_S = 5.0  # a run this long is not repeated
_PICTURES = {"vision_448": (448, 448), "vision_1080p": (1080, 1920)}
_CLIPS_S = {"audio_10s": 10, "audio_40s": 40}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a measurement is made with.

    Attributes:
        n_blocks: layers of each encoder, at most the real number.
        n_threads: for everybody; None for one per core.
        clock: seconds. On a machine that others keep busy, one thread and its processor time
            (``time.thread_time``) still compare fairly.
        directory: where the random encoders lie.
    """

    n_blocks: int
    n_threads: int | None
    clock: Callable[[], float]
    directory: Path


def run(*, full: bool, say: Callable[[str], None]) -> dict[str, float]:
    """Measure everything.

    Args:
        full: all layers of the real model (6 GB in the cache directory, several minutes).
        say: told what is measured now.
    """
    n_blocks = max(VISION.block_count, AUDIO.block_count) if full else _FEW_LAYERS
    return measure(Conditions(n_blocks, None, time.perf_counter, cache_dir() / "bench"), say)


def measure(conditions: Conditions, say: Callable[[str], None]) -> dict[str, float]:
    """The figures under given conditions."""
    with Backend("cpu", conditions.n_threads) as backend:
        figures = {"threads": float(backend.n_threads)}
        say("log-mel and tiling")
        figures |= _front_end_figures(conditions)
        say("audio encoder")
        figures |= _audio_figures(conditions, backend)
        say("picture encoder")
        figures |= _vision_figures(conditions, backend)
    return figures


def _front_end_figures(conditions: Conditions) -> dict[str, float]:
    """Log-mel of 30 s of sound, and tiling of a photo of 12 megapixels."""
    samples = _noise(30)
    photo = np.random.default_rng(0).integers(0, 256, (3024, 4032, 3), dtype=np.uint8)
    work: dict[str, Callable[[], object]] = {
        "log_mel_30s_ms": lambda: log_mel(samples, AUDIO.sample_rate_hz, AUDIO),
        "tile_12mp_ms": lambda: tile_image(photo, VISION),
    }
    by_the_clock = replace(conditions, clock=time.perf_counter)  # the resizing has threads of its own
    return {name: 1000 * seconds for name, seconds in _fastest(work, by_the_clock).items()}


def _noise(seconds: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 0.1, seconds * AUDIO.sample_rate_hz).astype(np.float32)


def _fastest(work: Mapping[str, Callable[[], object]], conditions: Conditions) -> dict[str, float]:
    """Seconds of the fastest run of each, run in turn; a first round warms up and counts only where it is slow."""
    first = {name: _seconds(function, conditions) for name, function in work.items()}
    if max(first.values()) > _SLOW_S:
        return first
    rounds = [{name: _seconds(function, conditions) for name, function in work.items()} for _ in range(_RUNS)]
    return {name: min(one[name] for one in rounds) for name in work}


def _seconds(work: Callable[[], object], conditions: Conditions) -> float:
    start = conditions.clock()
    work()
    return conditions.clock() - start


def _audio_figures(conditions: Conditions, backend: Backend) -> dict[str, float]:
    directory, n_blocks = conditions.directory, min(conditions.n_blocks, AUDIO.block_count)
    features = {name: log_mel(_noise(seconds), AUDIO.sample_rate_hz, AUDIO) for name, seconds in _CLIPS_S.items()}
    encoders = {kind: AudioEncoder(audio_file(directory, kind, n_blocks), backend) for kind in TYPES}
    figures = {"audio_layers": float(n_blocks)}
    try:
        torch_encode = _torch_peer("TorchAudio", audio_file(directory, "f32", n_blocks), backend.n_threads)
        for name, part in features.items():
            work = {kind: _bound(_audio_rows, encoder, part) for kind, encoder in encoders.items()}
            figures |= _compare(name, work, conditions, torch_encode and _bound(torch_encode, part))
    finally:
        for encoder in encoders.values():
            encoder.close()
    return figures


def _audio_rows(encoder: AudioEncoder, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return encoder.project(encoder.encode(features), "speech")


def _vision_figures(conditions: Conditions, backend: Backend) -> dict[str, float]:
    directory, n_blocks = conditions.directory, min(conditions.n_blocks, VISION.block_count)
    rng = np.random.default_rng(0)
    tiles = {
        name: tile_image(rng.integers(0, 256, (*size, 3), dtype=np.uint8), VISION) for name, size in _PICTURES.items()
    }
    encoders = {kind: VisionEncoder(vision_file(directory, kind, n_blocks), backend) for kind in TYPES}
    figures = {"vision_layers": float(n_blocks)}
    try:
        torch_encode = _torch_peer("TorchVision", vision_file(directory, "f32", n_blocks), backend.n_threads)
        for name, part in tiles.items():
            work = {kind: _bound(encoder.encode, part) for kind, encoder in encoders.items()}
            figures |= _compare(name, work, conditions, torch_encode and _bound(torch_encode, part))
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
    from app.bench import torch_peers

    torch_peers.use_threads(n_threads)
    peer = getattr(torch_peers, name)(path)
    encode: Callable[..., NDArray[np.float32]] = peer.encode
    return encode


def _compare(name: str, work: dict[str, Encode], conditions: Conditions, peer: Encode | None) -> dict[str, float]:
    """Times; relative L2 distance and speed-up where there is a peer."""
    everyone = {**work, **({"torch": peer} if peer else {})}
    rows: dict[str, NDArray[np.float32]] = {}
    keep = {kind: partial(_keep, rows, kind, encode) for kind, encode in everyone.items()}
    seconds = _fastest(keep, conditions)
    figures = {f"{name}_{kind}_s": value for kind, value in seconds.items()}
    if peer is not None:
        for kind in work:
            figures[f"{name}_{kind}_speedup_vs_torch_fp32"] = seconds["torch"] / seconds[kind]
            distance = np.linalg.norm(rows[kind] - rows["torch"]) / np.linalg.norm(rows["torch"])
            figures[f"{name}_{kind}_distance_to_torch_fp32"] = float(distance)
    return figures


def _keep(rows: dict[str, NDArray[np.float32]], kind: str, encode: Encode) -> None:
    rows[kind] = encode()
