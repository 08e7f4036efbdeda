"""The configuration keys of the transformers library's layout (phi4mm 6.2).

That library leaves out keys that have its class's default value, so the defaults here are its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from app.convert.config import ADAPTER_NAMES, BLOCK_FRAMES, MAX_LAYERS, AdapterConfig, AudioConfig, VisionConfig
from app.convert.layouts import ADAPTER_FOLDERS
from app.convert.settings import Settings, read_settings
from app.convert.shapes import RELATIVE_BIAS

if TYPE_CHECKING:
    from pathlib import Path

    from app.convert.config import AdapterName
    from app.convert.shapes import ShapeLookup

LANGUAGE_DEFAULTS = {
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 131072,
}
TIED_BY_DEFAULT = False
_DEFAULT_ORIGINAL_LENGTH = 4096


def rope_settings(settings: Settings) -> tuple[Settings, int | None]:
    """Rope keys as one object, and the original length; version 5 nests what older ones have on top."""
    nested = settings.section("rope_parameters" if "rope_parameters" in settings else "rope_scaling")
    top = {key: settings.values[key] for key in ("rope_theta", "partial_rotary_factor") if key in settings}
    key = "original_max_position_embeddings"
    inner = nested.integer(key, 0)
    length = settings.integer(key, inner or _DEFAULT_ORIGINAL_LENGTH)
    return Settings(top | {k: v for k, v in nested.values.items() if v is not None}, nested.source), length


def vision_and_audio(
    settings: Settings, preprocessor: Settings, lookup: ShapeLookup
) -> tuple[VisionConfig, AudioConfig]:
    """Sizes of both encoders and of what stands before them."""
    return _vision(settings.section("vision_config"), preprocessor, lookup), _audio(
        settings.section("audio_config"), preprocessor, lookup
    )


def _vision(vision: Settings, preprocessor: Settings, lookup: ShapeLookup) -> VisionConfig:
    vision.only("hidden_act", ("gelu_pytorch_tanh",))
    vision.only("num_channels", (3,))
    layers, heads = vision.integer("num_hidden_layers", 27, MAX_LAYERS), vision.integer("num_attention_heads", 16)
    width, crop_size = vision.integer("hidden_size", 1152), vision.integer("crop_size", 448)
    if heads == 0 or width % heads:
        raise vision.error("num_attention_heads", f"({heads}) does not divide hidden_size ({width})")
    feature_layer = vision.values.get("feature_layer", -2)
    if type(feature_layer) is not int or not 0 < (blocks := feature_layer % (layers + 1)) < layers:
        raise vision.error("feature_layer", f"is {feature_layer!r}, not a layer before the last of {layers}")
    if (size := preprocessor.side("size", crop_size)) != crop_size:
        raise preprocessor.error("size", f"cuts pictures into {size} pixels, the model needs {crop_size}")
    return VisionConfig(
        embedding_length=width,
        feed_forward_length=vision.integer("intermediate_size", 4304),
        layer_count=layers,
        block_count=blocks,
        head_count=heads,
        layer_norm_epsilon=vision.number("layer_norm_eps", 1e-6),
        crop_size=crop_size,
        patch_size=vision.side("patch_size", 14),
        position_grid=lookup.position_grid(),
        max_crops=preprocessor.integer("dynamic_hd", 36),
        pixel_mean=_same_for_all_channels(preprocessor, "image_mean"),
        pixel_std=_same_for_all_channels(preprocessor, "image_std"),
    )


def _same_for_all_channels(preprocessor: Settings, key: str) -> float:
    if key not in preprocessor:
        return 0.5
    values = preprocessor.numbers(key)
    if len(set(values)) != 1:
        raise preprocessor.error(key, "differs between colours, which is not supported")
    return values[0]


def _audio(audio: Settings, preprocessor: Settings, lookup: ShapeLookup) -> AudioConfig:
    for key, supported in _SUPPORTED_AUDIO.items():
        audio.only(key, supported)
    preprocessor.only("mel_min_frequency", (0,))
    width, mel_bins = audio.integer("hidden_size", 1024), audio.integer("input_size", 80)
    for key in ("ext_pw_out_channel", "depthwise_separable_out_channel"):
        if audio.integer(key, 1024) != width:
            raise audio.error(key, f"differs from hidden_size ({width}), which is not supported")
    if preprocessor.integer("feature_size", mel_bins) != mel_bins:
        raise preprocessor.error("feature_size", f"is not the encoder's input_size ({mel_bins})")
    return AudioConfig(
        embedding_length=width,
        feed_forward_length=audio.integer("intermediate_size", 1536),
        block_count=audio.integer("num_blocks", 24, MAX_LAYERS),
        head_count=audio.integer("num_attention_heads", 16),
        conv_channels=audio.integer("nemo_conv_channels", 1024),
        kernel_size=audio.integer("kernel_size", 3),
        time_reduction=audio.integer("time_reduction", 8),
        bias_max_distance=audio.integer("bias_max_distance", lookup.extent(RELATIVE_BIAS, 0) // 2),
        mel_bins=mel_bins,
        block_frames=audio.integer("block_frames", BLOCK_FRAMES),
        mel_high_hz=preprocessor.number("mel_max_frequency", 7690.0),
        sample_rate_hz=preprocessor.integer("sampling_rate", 16000),
        window_length=preprocessor.integer("win_length", 400),
        hop_length=preprocessor.integer("hop_length", 160),
        n_fft=preprocessor.integer("n_fft", 512),
        preemphasis=preprocessor.number("preemphasis", 0.97),
    )


_SUPPORTED_AUDIO: dict[str, tuple[object, ...]] = {
    "activation": ("swish", "silu"),
    "conv_activation": ("swish", "silu"),
    "conv_glu_type": ("swish", "silu"),
    "nemo_activation": ("relu",),
    "chunk_size": (-1,),
    "bias_symmetric": (False,),
    "depthwise_multiplier": (1,),
    "downsample_rate": (1,),
    "time_reduction": (8,),
}


def placeholder_ids(settings: Settings) -> tuple[int | None, int | None]:
    """Ids of the image and audio placeholders, where the file states them."""
    vision, audio = settings.section("vision_config"), settings.section("audio_config")
    return (
        vision.integer("image_token_id") if "image_token_id" in vision else None,
        audio.integer("audio_token_id") if "audio_token_id" in audio else None,
    )


def adapters(settings: Settings, folder: Path) -> dict[AdapterName, AdapterConfig]:
    """Rank and scale of both adapters from their folders; ``settings`` does not know them."""
    return {name: _adapter(folder / ADAPTER_FOLDERS[name]) for name in ADAPTER_NAMES}


def _adapter(folder: Path) -> AdapterConfig:
    settings = read_settings(folder / "adapter_config.json")
    settings.only("use_dora", (False,))
    settings.only("fan_in_fan_out", (False,))
    settings.only("bias", ("none",))
    for key in ("rank_pattern", "alpha_pattern"):
        settings.only(key, ({},))
    rank, alpha = settings.integer("r"), settings.number("lora_alpha")
    return AdapterConfig(rank, alpha * math.sqrt(rank) if settings.flag("use_rslora", False) else alpha)
