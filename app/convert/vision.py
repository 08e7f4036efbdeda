"""The picture tower and its projector as ``vision-encoder.gguf`` (docs/model-format.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.convert.expected import IMAGE, TOWER
from app.convert.planning import EncoderPlan
from app.convert.types import padded
from app.runtime.formats.params import VisionParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.convert.checkpoint import Checkpoint
    from app.convert.config import CheckpointConfig, VisionConfig
    from app.convert.gguf_writer import PlannedTensor
    from app.runtime.formats.ggml_types import GgmlType

ARCHITECTURE = "phi4mm-vision"


def vision_params(config: CheckpointConfig) -> VisionParams:
    """What the runtime needs to know; the layers that do not run are not counted."""
    vision = config.vision
    return VisionParams(
        embedding_length=vision.embedding_length,
        feed_forward_length=vision.feed_forward_length,
        block_count=vision.block_count,
        head_count=vision.head_count,
        layer_norm_epsilon=vision.layer_norm_epsilon,
        crop_size=vision.crop_size,
        patch_size=vision.patch_size,
        position_grid=vision.position_grid,
        max_crops=vision.max_crops,
        pixel_mean=vision.pixel_mean,
        pixel_std=vision.pixel_std,
        projection_length=config.language.embedding_length,
    )


def vision_tensors(checkpoint: Checkpoint, wanted: GgmlType, magnitudes: Mapping[str, float]) -> list[PlannedTensor]:
    """Every tensor of the file; the last layer, its norm and the pooling head are left out."""
    vision, width = checkpoint.config.vision, checkpoint.config.language.embedding_length
    plan = EncoderPlan(checkpoint, wanted, magnitudes)
    d = vision.embedding_length
    plan.exact("v.patch_embd.weight", TOWER + "embeddings.patch_embedding.weight", (d, 3 * vision.patch_size**2))
    plan.exact("v.patch_embd.bias", TOWER + "embeddings.patch_embedding.bias", (d,))
    positions = TOWER + "embeddings.position_embedding.weight"
    plan.exact("v.position_embd.weight", positions, (vision.position_grid**2, d))
    for block in range(vision.block_count):
        _add_block(plan, block, vision)
    plan.exact("v.sub_separator", IMAGE + "sub_img_feature_extensor", (d,))
    plan.exact("v.global_separator", IMAGE + "global_img_feature_extensor", (d,))
    plan.linear("v.proj_up", [IMAGE + "img_projection_up"], (width, d))
    plan.linear("v.proj_down", [IMAGE + "img_projection_down"], (width, width))
    return plan.tensors


def _add_block(plan: EncoderPlan, block: int, vision: VisionConfig) -> None:
    source, target, d = f"{TOWER}encoder.layers.{block}.", f"v.blk.{block}.", vision.embedding_length
    ff = vision.feed_forward_length
    wide = padded(ff, plan.wanted)  # zero rows give zero through GELU, so the padding changes nothing
    plan.norm(target + "ln1", source + "layer_norm1", d)
    plan.linear(target + "attn_qkv", [f"{source}self_attn.{part}_proj" for part in "qkv"], (3 * d, d))
    plan.linear(target + "attn_out", [source + "self_attn.out_proj"], (d, d))
    plan.norm(target + "ln2", source + "layer_norm2", d)
    plan.linear(target + "ffn_up", [source + "mlp.fc1"], (ff, d), pad=(wide, d))
    plan.linear(target + "ffn_down", [source + "mlp.fc2"], (d, ff), pad=(d, wide))
