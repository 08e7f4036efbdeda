"""What the checkpoint's configuration files say, in one place and for both layouts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.validation.reference.checkpoint import Checkpoint

IMAGE_EMBED = "model.embed_tokens_extend.image_embed"
AUDIO_EMBED = "model.embed_tokens_extend.audio_embed"
PUBLISHED_VISION_HEADS = 16  # the original code has it hard-coded, its configuration does not name it


@dataclass(frozen=True, slots=True)
class Language:
    """Sizes of the language model and its rotary embedding (phi4mm 1)."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    rope_theta: float
    rms_epsilon: float
    short_factor: list[float]
    long_factor: list[float]
    rope_scale: float
    original_tokens: int


@dataclass(frozen=True, slots=True)
class Vision:
    """Sizes of the tower and of the tiling (phi4mm 3)."""

    heads: int
    crop: int
    patch: int
    grid: int
    max_crops: int
    feature_layer: int


@dataclass(frozen=True, slots=True)
class Sound:
    """Sizes of the conformer (phi4mm 4)."""

    heads: int
    mel_bins: int


def language_settings(checkpoint: Checkpoint) -> Language:
    """Read the language model's sizes."""
    config = checkpoint.config
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = {**config, **(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rotary_dim = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    scaled = rope.get("rope_type", rope.get("type", "default")) in ("longrope", "su", "yarn")
    ones = [1.0] * (rotary_dim // 2)
    return Language(
        layers=config["num_hidden_layers"], heads=heads, kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=head_dim, rotary_dim=rotary_dim, rope_theta=float(rope.get("rope_theta", 10000.0)),
        rms_epsilon=float(config.get("rms_norm_eps", 1e-5)),
        short_factor=rope["short_factor"] if scaled else ones, long_factor=rope["long_factor"] if scaled else ones,
        rope_scale=_rope_scale(rope) if scaled else 1.0,
        original_tokens=int(rope.get("original_max_position_embeddings") or config["max_position_embeddings"]),
    )  # fmt: skip


def _rope_scale(rope: dict[str, Any]) -> float:
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or rope["max_position_embeddings"] / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def vision_settings(checkpoint: Checkpoint) -> Vision:
    """Read the tower's sizes, from the weights where the original configuration has none."""
    config = checkpoint.config.get("vision_config") or {}
    embed = (checkpoint.config.get("embd_layer") or {}).get("image_embd_layer") or {}
    tower = checkpoint.config.get("img_processor") or {}
    patch = checkpoint[f"{IMAGE_EMBED}.img_processor.embeddings.patch_embedding.weight"].shape[-1]
    grid = math.isqrt(checkpoint[f"{IMAGE_EMBED}.img_processor.embeddings.position_embedding.weight"].shape[0])
    processor = _image_processor(checkpoint)
    return Vision(
        heads=config.get("num_attention_heads") or tower.get("num_attention_heads") or PUBLISHED_VISION_HEADS,
        crop=config.get("crop_size") or embed.get("crop_size") or grid * patch, patch=patch, grid=grid,
        max_crops=int(processor.get("dynamic_hd", 36)), feature_layer=int(config.get("feature_layer", -2)),
    )  # fmt: skip


def _image_processor(checkpoint: Checkpoint) -> dict[str, Any]:
    joint = checkpoint.json("processor_config.json")
    return {**checkpoint.json("preprocessor_config.json"), **joint, **joint.get("image_processor", {})}


def sound_settings(checkpoint: Checkpoint) -> Sound:
    """Read the conformer's sizes."""
    heads = checkpoint[f"{AUDIO_EMBED}.encoder.relative_attention_bias_layer.bias_values.weight"].shape[1]
    bins = checkpoint[f"{AUDIO_EMBED}.encoder.encoder_embedding.global_mean"].shape[0]
    return Sound(heads=heads, mel_bins=bins)
