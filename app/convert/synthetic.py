"""Random checkpoints in both published layouts, of any size, for tests, references and benches.

The numbers are seeded by tensor name, so both layouts of one seed hold the same model. The
initial scales keep activations near one: outputs are sensitive to every tensor, yet well-conditioned.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.convert import synthetic_config
from app.convert.config import (
    AdapterConfig,
    AudioConfig,
    CheckpointConfig,
    LanguageConfig,
    RopeConfig,
    VisionConfig,
)
from app.convert.expected import expected_tensors, pooling_head_tensors
from app.convert.layouts import ADAPTER_FOLDERS, to_original
from app.convert.safetensors import write_safetensors
from app.convert.synthetic_tokenizer import SpecialIds, write_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.convert.config import Layout

SHARD_BYTES = 4 << 30
_BLOCK_VALUES = (1 << 21) + 7  # odd, so that repeats never line up with rows

PUBLISHED_LONG_FACTORS = (
    1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649, 2.446418898,
    2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533, 5.984965424,
    6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252,
    16.37415215, 18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23,
    32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
)  # fmt: skip


def published() -> CheckpointConfig:
    """The sizes of the published Phi-4-multimodal checkpoint: 2047 tensors, 5.6 billion values."""
    rope = RopeConfig(
        10000.0, 96, (1.0,) * 48, tuple(map(float, PUBLISHED_LONG_FACTORS)), 4096, _attention_factor(131072, 4096)
    )
    language = LanguageConfig(200064, 3072, 8192, 32, 24, 8, 128, 1e-5, 131072, True, rope)
    vision = VisionConfig(1152, 4304, 27, 26, 16, 1e-6, 448, 14, 32, 36, 0.5, 0.5)
    audio = AudioConfig(1024, 1536, 24, 16, 1024, 3, 8, 500, 80)
    adapters = {"vision": AdapterConfig(256, 512.0), "speech": AdapterConfig(320, 640.0)}
    return CheckpointConfig("original", language, vision, audio, adapters)  # type: ignore[arg-type]


def tiny() -> CheckpointConfig:
    """Everything small and nothing as published: 0.6 million values, odd head counts and ids.

    The vision feed-forward width (72) needs padding for quantized types, the vision adapter's
    rank is a multiple of 32 and the speech adapter's is not.
    """
    long_factors = tuple(1.0 + 0.7 * index for index in range(6))
    rope = RopeConfig(10000.0, 12, (1.0,) * 6, long_factors, 128, _attention_factor(512, 128))
    language = LanguageConfig(768, 96, 160, 2, 6, 2, 16, 1e-5, 512, True, rope)
    vision = VisionConfig(64, 72, 3, 2, 4, 1e-6, 56, 14, 4, 6, 0.5, 0.5)
    audio = AudioConfig(64, 96, 2, 4, 32, 3, 8, 40, 80)
    adapters = {"vision": AdapterConfig(32, 64.0), "speech": AdapterConfig(20, 40.0)}
    return CheckpointConfig("native", language, vision, audio, adapters)  # type: ignore[arg-type]


def write_checkpoint(
    folder: Path,
    config: CheckpointConfig | None = None,
    *,
    layout: Layout = "native",
    seed: int = 0,
    dtype: str = "BF16",
    shard_bytes: int = SHARD_BYTES,
) -> CheckpointConfig:
    """Write a random checkpoint with weights, configuration and tokenizer.

    Args:
        folder: made if missing; its files are overwritten.
        config: sizes; :func:`tiny` by default. Its layout and token ids are replaced.
        layout: ``original`` or ``native``.
        seed: another seed, another model; the layout does not matter to the numbers.
        dtype: ``BF16`` as published, ``F16`` or ``F32``.
        shard_bytes: tensors are spread over files of at most about this size.

    Returns:
        The configuration as a reader of the folder should find it.
    """
    config = config or tiny()
    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder, config.language.vocab_size, layout)
    config = replace(config, layout=layout, image_token_id=ids.image, audio_token_id=ids.audio, eos_token_ids=ids.eos)
    synthetic_config.write(folder, config, ids)
    _write_weights(folder, config, seed, dtype, shard_bytes)
    return config


def _write_weights(folder: Path, config: CheckpointConfig, seed: int, dtype: str, shard_bytes: int) -> None:
    canonical = expected_tensors(config) | pooling_head_tensors(config.vision)
    own = {name: shape for name, shape in canonical.items() if ":" not in name}
    make = RandomTensors(config, seed)
    if config.layout == "original":
        _write_shards(
            folder, {to_original(name): (name, shape) for name, shape in canonical.items()}, make, dtype, shard_bytes
        )
        return
    _write_shards(folder, {name: (name, shape) for name, shape in own.items()}, make, dtype, shard_bytes)
    for adapter, adapter_config in config.adapters.items():
        target = folder / ADAPTER_FOLDERS[adapter]
        target.mkdir(exist_ok=True)
        mine = {
            name.removeprefix(f"{adapter}:"): shape
            for name, shape in canonical.items()
            if name.startswith(f"{adapter}:")
        }
        write_safetensors(target / "adapter_model.safetensors", mine, _prefixed(make, f"{adapter}:"), dtype)
        synthetic_config.write_adapter(target, adapter_config)


def _prefixed(make: RandomTensors, prefix: str) -> Any:  # noqa: ANN401 - a callable of write_safetensors
    return lambda name, shape: make(prefix + name, shape)


def _write_shards(
    folder: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], make: RandomTensors, dtype: str, shard_bytes: int
) -> None:
    """Write one file, or numbered shards and their index; ``tensors`` is file name to (canonical, shape)."""
    shards = _split(tensors, shard_bytes // (4 if dtype == "F32" else 2))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file_name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map.update(dict.fromkeys(names, file_name))
        shapes = {name: tensors[name][1] for name in names}
        write_safetensors(folder / file_name, shapes, lambda name, shape: make(tensors[name][0], shape), dtype)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _split(tensors: dict[str, tuple[str, tuple[int, ...]]], values_per_shard: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, (_, shape) in tensors.items():
        if shards[-1] and filled + math.prod(shape) > values_per_shard:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += math.prod(shape)
    return shards


class RandomTensors:
    """Makes the values of a tensor from its canonical name, its shape and the seed."""

    def __init__(self, config: CheckpointConfig, seed: int) -> None:
        self._seed = seed
        self._residual_scales = {
            "model.layers.": 1.0 / math.sqrt(2 * config.language.block_count),
            "img_processor": 1.0 / math.sqrt(2 * config.vision.layer_count),
        }

    def __call__(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Values of tensor ``name``, float32 in ``shape``."""
        mean, std = self._mean_and_std(name, shape)
        digest = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=16).digest()
        generator = np.random.Generator(np.random.Philox(int.from_bytes(digest, "little")))
        values = generator.standard_normal(min(math.prod(shape), _BLOCK_VALUES), dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return np.resize(values, shape)

    def _mean_and_std(self, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
        last = name.rsplit(".", 1)[-1]
        if name.endswith("global_mean"):
            return 11.0, 1.5
        if name.endswith("global_invstd"):
            return 0.25, 0.02
        if "norm" in name:
            return (1.0, 0.1) if last == "weight" else (0.0, 0.05)
        if last in ("bias", "in_proj_bias", "b1", "b2"):
            return 0.0, 0.05
        return 0.0, self._weight_std(name, shape)

    def _weight_std(self, name: str, shape: tuple[int, ...]) -> float:
        if "lora_B" in name:
            return 0.2 / math.sqrt(shape[1])
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            return 1.5 / math.sqrt(shape[1])
        if any(part in name for part in ("bias_values", "position_embedding", "probe", "extensor")):
            return 0.5
        std = 1.0 / math.sqrt(math.prod(shape[1:]))
        if "embed.conv." in name:
            return std * math.sqrt(2.0)
        if name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight", "fc2.weight")):
            std *= next((scale for part, scale in self._residual_scales.items() if part in name), 1.0)
        return std


def _attention_factor(context_length: int, original_length: int) -> float:
    return math.sqrt(1.0 + math.log(context_length / original_length) / math.log(original_length))


__all__ = ["RandomTensors", "SpecialIds", "published", "tiny", "write_checkpoint"]
