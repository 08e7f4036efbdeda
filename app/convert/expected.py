"""The tensors a checkpoint must hold, by canonical name, with their shapes (phi4mm 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.convert.config import (
        AdapterConfig,
        AdapterName,
        AudioConfig,
        CheckpointConfig,
        LanguageConfig,
        VisionConfig,
    )

Shape = tuple[int, ...]
Expected = tuple[str, Shape]
IMAGE = "model.embed_tokens_extend.image_embed."
TOWER = IMAGE + "img_processor."
AUDIO = "model.embed_tokens_extend.audio_embed."
ENCODER = AUDIO + "encoder."
EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"


def expected_tensors(config: CheckpointConfig) -> dict[str, Shape]:
    """Every tensor that must be there, 2047 in the published checkpoint."""
    found = dict(_language(config.language))
    for adapter, adapter_config in config.adapters.items():
        found.update(_adapter(adapter, adapter_config, config.language))
    found.update(_vision(config.vision))
    found.update(_vision_projector(config.vision, config.language.embedding_length))
    found.update(_audio(config.audio))
    found.update(_audio_projectors(config.audio, config.language.embedding_length))
    return found


def pooling_head_tensors(vision: VisionConfig) -> dict[str, Shape]:
    """The tower's end, which the model does not run: either all of it is there or none."""
    d, ff, head = vision.embedding_length, vision.feed_forward_length, TOWER + "head."
    found = dict(_affine(TOWER + "post_layernorm", (d,)))
    found[head + "probe"] = (1, 1, d)
    found[head + "attention.in_proj_weight"] = (3 * d, d)
    found[head + "attention.in_proj_bias"] = (3 * d,)
    found.update(_affine(head + "attention.out_proj", (d, d)))
    found.update(_affine(head + "layernorm", (d,)))
    found.update(_affine(head + "mlp.fc1", (ff, d)))
    found.update(_affine(head + "mlp.fc2", (d, ff)))
    return found


def adapted_matrices(language: LanguageConfig, block: int) -> dict[str, Shape]:
    """The four matrices of a decoder block that carry adapters, (rows, columns)."""
    d, ff, prefix = language.embedding_length, language.feed_forward_length, f"model.layers.{block}."
    return {
        prefix + "self_attn.qkv_proj": (language.qkv_rows, d),
        prefix + "self_attn.o_proj": (d, language.head_count * language.head_length),
        prefix + "mlp.gate_up_proj": (2 * ff, d),
        prefix + "mlp.down_proj": (d, ff),
    }


def _affine(name: str, shape: Shape) -> Iterator[Expected]:
    yield name + ".weight", shape
    yield name + ".bias", shape[:1]


def _language(language: LanguageConfig) -> Iterator[Expected]:
    d = language.embedding_length
    yield EMBEDDING, (language.vocab_size, d)
    yield "model.norm.weight", (d,)
    if not language.tied:
        yield LM_HEAD, (language.vocab_size, d)
    for block in range(language.block_count):
        yield f"model.layers.{block}.input_layernorm.weight", (d,)
        yield f"model.layers.{block}.post_attention_layernorm.weight", (d,)
        for name, shape in adapted_matrices(language, block).items():
            yield name + ".weight", shape


def _adapter(adapter: AdapterName, config: AdapterConfig, language: LanguageConfig) -> Iterator[Expected]:
    for block in range(language.block_count):
        for name, (rows, columns) in adapted_matrices(language, block).items():
            yield f"{adapter}:{name}.lora_A.weight", (config.rank, columns)
            yield f"{adapter}:{name}.lora_B.weight", (rows, config.rank)


def _vision(vision: VisionConfig) -> Iterator[Expected]:
    d, ff, patch = vision.embedding_length, vision.feed_forward_length, vision.patch_size
    yield from _affine(TOWER + "embeddings.patch_embedding", (d, 3, patch, patch))
    yield TOWER + "embeddings.position_embedding.weight", (vision.position_grid**2, d)
    for layer in range(vision.layer_count):
        prefix = f"{TOWER}encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _affine(f"{prefix}self_attn.{part}", (d, d))
        yield from _affine(prefix + "layer_norm1", (d,))
        yield from _affine(prefix + "layer_norm2", (d,))
        yield from _affine(prefix + "mlp.fc1", (ff, d))
        yield from _affine(prefix + "mlp.fc2", (d, ff))


def _vision_projector(vision: VisionConfig, width: int) -> Iterator[Expected]:
    yield IMAGE + "global_img_feature_extensor", (1, 1, vision.embedding_length)
    yield IMAGE + "sub_img_feature_extensor", (1, 1, 1, vision.embedding_length)
    yield from _affine(IMAGE + "img_projection_up", (width, vision.embedding_length))
    yield from _affine(IMAGE + "img_projection_down", (width, width))


def _audio(audio: AudioConfig) -> Iterator[Expected]:
    c, conv = audio.conv_channels, ENCODER + "embed.conv."
    yield ENCODER + "encoder_embedding.global_mean", (audio.mel_bins,)
    yield ENCODER + "encoder_embedding.global_invstd", (audio.mel_bins,)
    for index in (0, 2, 5):
        yield from _affine(f"{conv}{index}", (c, 1, 3, 3))
    for index in (3, 6):
        yield from _affine(f"{conv}{index}", (c, c, 1, 1))
    yield from _affine(ENCODER + "embed.out", (audio.embedding_length, c * audio.subsampled_mel_bins))
    yield ENCODER + "relative_attention_bias_layer.bias_values.weight", (2 * audio.bias_max_distance, audio.head_count)
    for block in range(audio.block_count):
        yield from _audio_block(f"{ENCODER}encoders.{block}.", audio)


def _audio_block(prefix: str, audio: AudioConfig) -> Iterator[Expected]:
    d, ff = audio.embedding_length, audio.feed_forward_length
    for side in ("feed_forward_in", "feed_forward_out"):
        yield from _affine(f"{prefix}{side}.layer_norm", (d,))
        yield from _affine(f"{prefix}{side}.gate_up_proj", (2 * ff, d))
        yield from _affine(f"{prefix}{side}.down_proj", (d, ff))
    for part in "qkvo":
        yield from _affine(f"{prefix}self_attn.{part}_proj", (d, d))
    yield from _affine(prefix + "conv.layer_norm", (d,))
    yield from _affine(prefix + "conv.glu.ext_pw_conv_1d", (2 * d, d, 1))
    yield prefix + "conv.glu.b1", (1, d, 1)
    yield prefix + "conv.glu.b2", (1, d, 1)
    yield from _affine(prefix + "conv.dw_sep_conv_1d.dw_conv", (d, 1, audio.kernel_size))
    yield from _affine(prefix + "conv.dw_sep_conv_1d.pw_conv", (d, d, 1))
    yield from _affine(prefix + "conv.ext_pw_conv_1d", (d, d, 1))
    yield from _affine(prefix + "layer_norm_att", (d,))
    yield from _affine(prefix + "layer_norm", (d,))


def _audio_projectors(audio: AudioConfig, width: int) -> Iterator[Expected]:
    for use in ("speech", "vision_speech"):
        yield from _affine(f"{AUDIO}up_proj_for_{use}", (width, audio.embedding_length))
        yield from _affine(f"{AUDIO}down_proj_for_{use}", (width, width))
