"""The random checkpoints behind the golden vectors: odd sizes, both layouts, every rope form."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path

from app.convert.config import AdapterConfig, AudioConfig, CheckpointConfig, LanguageConfig, RopeConfig, VisionConfig
from app.convert.synthetic import write_checkpoint

GOLDEN_DIR = Path(__file__).parent
LONG_SOUNDS = ("speech_long", "speech_narrow_long", "vision_speech_long")


@dataclass(frozen=True)
class Golden:
    """A checkpoint's sizes and seed, and the cases its suite does without (to keep the file small)."""

    config: CheckpointConfig
    seed: int
    without: tuple[str, ...] = ()


def _rope(dimensions: int, original: int, context: int) -> RopeConfig:
    half = dimensions // 2
    short, long = (tuple(1.0 + step * i for i in range(half)) for step in (0.05, 0.9))
    return RopeConfig(
        10000.0, dimensions, short, long, original, math.sqrt(1 + math.log(context / original) / math.log(original))
    )


def _config(layout, language, vision, audio, ranks):
    adapters = {name: AdapterConfig(rank, 2.0 * rank) for name, rank in zip(("vision", "speech"), ranks, strict=True)}
    return CheckpointConfig(layout, language, vision, audio, adapters)


def odd_native() -> CheckpointConfig:
    """Nothing a multiple of 32, one key head, an original context that is no multiple of 256."""
    language = LanguageConfig(411, 60, 76, 3, 5, 1, 12, 1e-5, 8192, True, _rope(6, 300, 8192))
    vision = VisionConfig(36, 50, 4, 3, 3, 1e-6, 84, 7, 12, 9, 0.5, 0.5)
    audio = AudioConfig(40, 44, 3, 4, 7, 5, 8, 30, 80)
    return _config("native", language, vision, audio, (5, 7))


def small_original() -> CheckpointConfig:
    """The published proportions in small: 16 tower heads, bias distance 500, 36 crops, kernel 3."""
    language = LanguageConfig(352, 96, 160, 2, 6, 2, 16, 1e-5, 16384, True, _rope(12, 512, 16384))
    vision = VisionConfig(64, 72, 3, 2, 16, 1e-6, 56, 14, 4, 36, 0.5, 0.5)
    audio = AudioConfig(64, 96, 2, 4, 32, 3, 8, 500, 80)
    return _config("original", language, vision, audio, (32, 20))


def wide_native() -> CheckpointConfig:
    """Widths that every quantized type can hold; plain rope, an output matrix of its own."""
    rope = RopeConfig(20000.0, 16, None, None, 4096, 1.0)
    language = LanguageConfig(512, 256, 512, 2, 8, 4, 32, 1e-6, 4096, False, rope)
    vision = VisionConfig(128, 272, 3, 2, 4, 1e-6, 112, 14, 8, 4, 0.5, 0.5)
    audio = AudioConfig(96, 160, 2, 6, 24, 3, 8, 64, 80)
    return _config("native", language, vision, audio, (32, 64))


GOLDENS = {
    "odd_native": Golden(odd_native(), seed=1),
    "small_original": Golden(small_original(), seed=2),
    "wide_native": Golden(wide_native(), seed=3, without=LONG_SOUNDS),
}


def make_checkpoint(name: str, directory: Path) -> None:
    """Write the checkpoint of a golden into ``directory``."""
    golden = GOLDENS[name]
    write_checkpoint(directory, replace(golden.config), layout=golden.config.layout, seed=golden.seed, dtype="F32")


def weights_sha256(directory: Path) -> str:
    """Digest of all weights and the tokenizer of a checkpoint: tells a drifted generator from a broken runtime."""
    digest = hashlib.sha256()
    for path in sorted([*directory.rglob("*.safetensors"), directory / "tokenizer.json"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
