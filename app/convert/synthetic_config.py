"""The JSON files of a random checkpoint: model, generation, preprocessing and adapter settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from app.convert.config import AdapterConfig, AudioConfig, CheckpointConfig, LanguageConfig, VisionConfig
    from app.convert.synthetic_tokenizer import SpecialIds

_LORA_LAYERS = r"layers.*((self_attn\.(qkv_proj|o_proj))|(mlp\.(gate_up|down)_proj))"
_NATIVE_LORA_LAYERS = r"model\.layers\.\d+\.((self_attn\.(qkv|o)_proj)|(mlp\.(gate_up|down)_proj))"


def write(folder: Path, config: CheckpointConfig, ids: SpecialIds) -> None:
    """Write ``config.json``, ``generation_config.json`` and ``preprocessor_config.json``."""
    own = _original(config) if config.layout == "original" else _native(config, ids)
    _write_json(folder / "config.json", _language(config.language, ids) | own)
    generation = {"bos_token_id": ids.endoftext, "eos_token_id": list(ids.eos), "pad_token_id": ids.endoftext}
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / "preprocessor_config.json", _preprocessor(config))


def write_adapter(folder: Path, adapter: AdapterConfig) -> None:
    """Write ``adapter_config.json`` of one adapter folder of the native layout."""
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": _NATIVE_LORA_LAYERS,
    }
    _write_json(folder / "adapter_config.json", settings)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _language(language: LanguageConfig, ids: SpecialIds) -> dict[str, Any]:
    return {
        "vocab_size": language.vocab_size,
        "hidden_size": language.embedding_length,
        "intermediate_size": language.feed_forward_length,
        "num_hidden_layers": language.block_count,
        "num_attention_heads": language.head_count,
        "num_key_value_heads": language.head_count_kv,
        "hidden_act": "silu",
        "rms_norm_eps": language.rms_norm_epsilon,
        "max_position_embeddings": language.context_length,
        "original_max_position_embeddings": language.rope.original_length,
        "sliding_window": 2 * language.context_length,
        "tie_word_embeddings": language.tied,
        "bos_token_id": ids.endoftext,
        "eos_token_id": ids.endoftext,
        "pad_token_id": ids.endoftext,
        "torch_dtype": "bfloat16",
    }


def _rope(language: LanguageConfig, type_key: str) -> dict[str, Any]:
    if language.rope.short_factors is None or language.rope.long_factors is None:
        return {type_key: "default"}
    return {
        type_key: "longrope",
        "short_factor": list(language.rope.short_factors),
        "long_factor": list(language.rope.long_factors),
    }


def _partial_rotary_factor(language: LanguageConfig) -> float:
    return language.rope.dimensions / language.head_length


def _original(config: CheckpointConfig) -> dict[str, Any]:
    """Keys of the model repository's own configuration (phi4mm 1.1, 4.4)."""
    language = config.language
    return {
        "architectures": ["Phi4MMForCausalLM"],
        "model_type": "phi4mm",
        "rope_theta": language.rope.theta,
        "partial_rotary_factor": _partial_rotary_factor(language),
        "rope_scaling": None if language.rope.short_factors is None else _rope(language, "type"),
        "attention_bias": False,
        "mlp_bias": False,
        "lm_head_bias": False,
        "img_processor": None if config.vision.head_count == 16 else {"num_attention_heads": config.vision.head_count},
        "embd_layer": _embedding_layer(config.vision),
        "audio_processor": {"name": "cascades", "config": _original_audio(config.audio)},
        **{
            f"{name}_lora": {"r": adapter.rank, "lora_alpha": adapter.alpha, "dp": 0.0, "layer": _LORA_LAYERS}
            for name, adapter in config.adapters.items()
        },
    }


def _embedding_layer(vision: VisionConfig) -> dict[str, Any]:
    image = {
        "crop_size": vision.crop_size,
        "embedding_cls": "tune_image",
        "hd_transform_order": "sub_glb",
        "image_token_compression_cls": "avg_pool_2d",
        "projection_cls": "mlp",
        "use_hd_transform": True,
        "with_learnable_separator": True,
    }
    audio = {"compression_rate": 8, "downsample_rate": 1, "embedding_cls": "audio", "projection_cls": "mlp"}
    audio |= {"use_conv_downsample": False, "use_qformer": False}
    return {"embedding_cls": "image_audio", "image_embd_layer": image, "audio_embd_layer": audio}


def _original_audio(audio: AudioConfig) -> dict[str, Any]:
    return {
        "attention_dim": audio.embedding_length,
        "attention_heads": audio.head_count,
        "linear_units": audio.feed_forward_length,
        "num_blocks": audio.block_count,
        "input_size": audio.mel_bins,
        "kernel_size": audio.kernel_size,
        "ext_pw_out_channel": audio.embedding_length,
        "ext_pw_kernel_size": 1,
        "depthwise_multiplier": 1,
        "depthwise_seperable_out_channel": audio.embedding_length,
        "activation": "swish",
        "conv_activation": "swish",
        "conv_glu_type": "swish",
        "bias_in_glu": True,
        "causal": True,
        "batch_norm": False,
        "chunk_size": -1,
        "left_chunk": 18,
        "cnn_layer_norm": True,
        "dropout_rate": 0.0,
        "input_layer": "nemo_conv",
        "time_reduction": audio.time_reduction,
        "nemo_conv_settings": {"conv_channels": audio.conv_channels},
        "relative_attention_bias_args": {"type": "t5", "t5_bias_max_distance": audio.bias_max_distance},
        "encoder_embedding_config": {"input_size": audio.mel_bins},
    }


def _native(config: CheckpointConfig, ids: SpecialIds) -> dict[str, Any]:
    """Keys of the transformers library's configuration, version 5."""
    language, vision, audio = config.language, config.vision, config.audio
    rope = {"rope_theta": language.rope.theta, "partial_rotary_factor": _partial_rotary_factor(language)}
    if language.rope.short_factors is not None:
        rope["original_max_position_embeddings"] = language.rope.original_length
    return {
        "architectures": ["Phi4MultimodalForCausalLM"],
        "model_type": "phi4_multimodal",
        "rope_parameters": _rope(language, "rope_type") | rope,
        "vision_config": {
            "model_type": "phi4_multimodal_vision",
            "hidden_size": vision.embedding_length,
            "intermediate_size": vision.feed_forward_length,
            "num_hidden_layers": vision.layer_count,
            "num_attention_heads": vision.head_count,
            "image_size": vision.position_grid * vision.patch_size,
            "crop_size": vision.crop_size,
            "patch_size": vision.patch_size,
            "layer_norm_eps": vision.layer_norm_epsilon,
            "hidden_act": "gelu_pytorch_tanh",
            "feature_layer": vision.block_count - vision.layer_count - 1,
            "image_token_id": ids.image,
        },
        "audio_config": _native_audio(audio) | {"audio_token_id": ids.audio},
    }


def _native_audio(audio: AudioConfig) -> dict[str, Any]:
    return {
        "model_type": "phi4_multimodal_audio",
        "hidden_size": audio.embedding_length,
        "intermediate_size": audio.feed_forward_length,
        "num_blocks": audio.block_count,
        "num_attention_heads": audio.head_count,
        "ext_pw_out_channel": audio.embedding_length,
        "depthwise_separable_out_channel": audio.embedding_length,
        "kernel_size": audio.kernel_size,
        "input_size": audio.mel_bins,
        "time_reduction": audio.time_reduction,
        "bias_max_distance": audio.bias_max_distance,
        "nemo_conv_channels": audio.conv_channels,
        "activation": "swish",
        "conv_activation": "swish",
        "conv_glu_type": "swish",
        "nemo_activation": "relu",
    }


def _preprocessor(config: CheckpointConfig) -> dict[str, Any]:
    vision, audio = config.vision, config.audio
    shared = {"dynamic_hd": vision.max_crops, "audio_compression_rate": 8, "audio_downsample_rate": 1}
    if config.layout == "original":
        return {"processor_class": "Phi4MMProcessor", **shared, "audio_feat_stride": 1}
    side = {"height": vision.crop_size, "width": vision.crop_size}
    return {
        "processor_class": "Phi4MultimodalProcessor",
        "image_processor_type": "Phi4MultimodalImageProcessorFast",
        "feature_extractor_type": "Phi4MultimodalFeatureExtractor",
        **shared,
        "size": side,
        "patch_size": vision.patch_size,
        "image_mean": [vision.pixel_mean] * 3,
        "image_std": [vision.pixel_std] * 3,
        "feature_size": audio.mel_bins,
        "sampling_rate": audio.sample_rate_hz,
        "hop_length": audio.hop_length,
        "n_fft": audio.n_fft,
        "win_length": audio.window_length,
        "preemphasis": audio.preemphasis,
        "mel_max_frequency": audio.mel_high_hz,
    }
