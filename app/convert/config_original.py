"""The configuration keys of the model repository's own layout (phi4mm 1.1, 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.convert.config import BLOCK_FRAMES, MAX_LAYERS, AdapterConfig, AudioConfig, VisionConfig
from app.convert.settings import Settings
from app.convert.shapes import FIRST_CONV, LAYERS, PATCHES, RELATIVE_BIAS

if TYPE_CHECKING:
    from pathlib import Path

    from app.convert.config import AdapterName
    from app.convert.shapes import ShapeLookup

LANGUAGE_DEFAULTS = {
    "vocab_size": 200064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "max_position_embeddings": 131072,
}
TIED_BY_DEFAULT = True
DEFAULT_HEAD_COUNT = 16  # hard-coded in the published code, where img_processor is null


def rope_settings(settings: Settings) -> tuple[Settings, int | None]:
    """Rope keys as one object, and the original length, a top-level key here."""
    scaling = settings.section("rope_scaling")
    top = {key: settings.values[key] for key in ("rope_theta", "partial_rotary_factor") if key in settings}
    # the published code computes the attention factor itself and ignores what the file says
    scaling_keys = {
        key: scaling.values[key] for key in ("type", "rope_type", "short_factor", "long_factor") if key in scaling
    }
    nested = scaling.integer("original_max_position_embeddings", 0)
    length = settings.integer("original_max_position_embeddings", nested)
    return Settings(scaling_keys | top, scaling.source), length or None


def vision_and_audio(
    settings: Settings, preprocessor: Settings, lookup: ShapeLookup
) -> tuple[VisionConfig, AudioConfig]:
    """Sizes of both encoders; what the file leaves out comes from the tensors."""
    image = settings.section("embd_layer").section("image_embd_layer")
    image.only("hd_transform_order", ("sub_glb",))
    image.only("image_token_compression_cls", ("avg_pool_2d",))
    image.only("projection_cls", ("mlp",))
    return _vision(settings, image, preprocessor, lookup), _audio(settings, lookup)


def _vision(settings: Settings, image: Settings, preprocessor: Settings, lookup: ShapeLookup) -> VisionConfig:
    tower = settings.section("img_processor")
    width = tower.integer("hidden_size", lookup.extent(PATCHES, 0))
    layers = tower.integer("num_hidden_layers", lookup.layer_count(LAYERS), MAX_LAYERS)
    heads = tower.integer("num_attention_heads", DEFAULT_HEAD_COUNT)
    if heads == 0 or width % heads:
        raise tower.error("num_attention_heads", f"is needed: {heads} heads do not divide the tower's width {width}")
    feature_layer = tower.values.get("layer_idx", -2)
    if type(feature_layer) is not int or not 0 < (blocks := feature_layer % (layers + 1)) < layers:
        raise tower.error("layer_idx", f"is {feature_layer!r}, not a layer before the last of {layers}")
    return VisionConfig(
        embedding_length=width,
        feed_forward_length=tower.integer("intermediate_size", lookup.extent(LAYERS + "0.mlp.fc1.weight", 0)),
        layer_count=layers,
        block_count=blocks,
        head_count=heads,
        layer_norm_epsilon=tower.number("layer_norm_eps", 1e-6),
        crop_size=image.integer("crop_size", 448),
        patch_size=tower.side("patch_size", lookup.extent(PATCHES, 2)),
        position_grid=lookup.position_grid(),
        max_crops=preprocessor.integer("dynamic_hd", 36),
        pixel_mean=0.5,
        pixel_std=0.5,
    )


def _audio(settings: Settings, lookup: ShapeLookup) -> AudioConfig:
    audio = settings.section("audio_processor").section("config")
    for key, supported in _SUPPORTED_AUDIO.items():
        audio.only(key, supported)
    width = audio.integer("attention_dim")
    for key in ("ext_pw_out_channel", "depthwise_seperable_out_channel"):
        audio.only(key, (0, width))  # 0 means "as wide as the encoder" in the published code
    bias = audio.section("relative_attention_bias_args")
    bias.only("type", ("t5",))
    bias.only("t5_bias_symmetric", (False,))
    return AudioConfig(
        embedding_length=width,
        feed_forward_length=audio.integer("linear_units"),
        block_count=audio.integer("num_blocks", most=MAX_LAYERS),
        head_count=audio.integer("attention_heads"),
        conv_channels=audio.section("nemo_conv_settings").integer("conv_channels", lookup.extent(FIRST_CONV, 0)),
        kernel_size=audio.integer("kernel_size"),
        time_reduction=audio.integer("time_reduction", 8),
        bias_max_distance=bias.integer("t5_bias_max_distance", lookup.extent(RELATIVE_BIAS, 0) // 2),
        mel_bins=audio.integer("input_size", 80),
        block_frames=audio.integer("block_frames", BLOCK_FRAMES),
    )


_SUPPORTED_AUDIO: dict[str, tuple[object, ...]] = {
    "activation": ("swish",),
    "conv_activation": ("swish",),
    "conv_glu_type": ("swish",),
    "bias_in_glu": (True,),
    "causal": (True,),
    "batch_norm": (False,),
    "chunk_size": (-1,),
    "input_layer": ("nemo_conv",),
    "depthwise_multiplier": (1,),
    "ext_pw_kernel_size": (1,),
    "time_reduction": (8,),
}


def placeholder_ids(settings: Settings) -> tuple[int | None, int | None]:
    """Ids of the image and audio placeholders, where the file states them."""
    stated = [settings.integer(key) if key in settings else None for key in ("image_token_id", "audio_token_id")]
    return stated[0], stated[1]


def adapters(settings: Settings, folder: Path) -> dict[AdapterName, AdapterConfig]:
    """Rank and scale of both adapters, which lie among the other tensors; ``folder`` is not needed."""
    return {"vision": _adapter(settings.section("vision_lora")), "speech": _adapter(settings.section("speech_lora"))}


def _adapter(section: Settings) -> AdapterConfig:
    return AdapterConfig(section.integer("r"), section.number("lora_alpha"))
