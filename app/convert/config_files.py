"""Read the configuration of a checkpoint folder, in either layout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from app.common.errors import ConversionError
from app.convert import config_native, config_original
from app.convert.config import MAX_LAYERS, MAX_VOCABULARY, CheckpointConfig, LanguageConfig, RopeConfig
from app.convert.settings import Settings, read_settings
from app.convert.shapes import ShapeLookup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from app.convert.config import Layout


def read_config(folder: Path, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> CheckpointConfig:
    """Read every setting conversion needs.

    Args:
        folder: the checkpoint.
        layout: what :func:`app.convert.layouts.detect` said.
        shapes: canonical tensor name to shape; sizes that the files leave out come from here.

    Raises:
        ConversionError: a file or key is missing, malformed, or asks for something unsupported.
    """
    settings = read_settings(folder / "config.json")
    reader = config_original if layout == "original" else config_native
    defaults = reader.LANGUAGE_DEFAULTS
    lookup = ShapeLookup(shapes)
    generation = read_settings(folder / "generation_config.json", optional=True)
    tied = settings.flag("tie_word_embeddings", reader.TIED_BY_DEFAULT)
    rope_settings, stated_length = reader.rope_settings(settings)
    vision, audio = reader.vision_and_audio(settings, read_preprocessor(folder), lookup)
    image_token_id, audio_token_id = reader.placeholder_ids(settings)
    return CheckpointConfig(
        layout=layout,
        language=_language(settings, defaults, tied, rope_settings, stated_length),
        vision=vision,
        audio=audio,
        adapters=reader.adapters(settings, folder),
        image_token_id=image_token_id,
        audio_token_id=audio_token_id,
        eos_token_ids=_eos(generation) or _eos(settings),
    )


def read_preprocessor(folder: Path) -> Settings:
    """All preprocessing settings as one flat object.

    ``processor_config.json`` of newer libraries nests them; ``preprocessor_config.json`` does not.
    """
    merged: dict[str, object] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        settings = read_settings(folder / name, optional=True)
        for part in ("image_processor", "feature_extractor", "audio_processor"):
            merged |= settings.section(part).values if isinstance(settings.values.get(part), dict) else {}
        merged |= {key: value for key, value in settings.values.items() if not isinstance(value, dict) or key == "size"}
    return Settings(merged, str(folder / "preprocessor_config.json"))


def _eos(settings: Settings) -> tuple[int, ...]:
    value = settings.values.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    if value is None:
        return ()
    if not all(type(token) is int for token in ids):
        raise settings.error("eos_token_id", "is neither a token id nor a list of them")
    return tuple(ids)


def _language(
    settings: Settings, defaults: Mapping[str, int], tied: bool, rope: Settings, stated_length: int | None
) -> LanguageConfig:
    settings.only("hidden_act", ("silu",))
    for bias in ("attention_bias", "mlp_bias", "lm_head_bias"):
        settings.only(bias, (False,))
    limits = {"num_hidden_layers": MAX_LAYERS, "vocab_size": MAX_VOCABULARY}
    sizes = {key: settings.integer(key, value, limits.get(key, 1 << 30)) for key, value in defaults.items()}
    heads, width, context = sizes["num_attention_heads"], sizes["hidden_size"], sizes["max_position_embeddings"]
    if heads == 0 or width % heads:
        raise settings.error("num_attention_heads", f"({heads}) does not divide hidden_size ({width})")
    head_length, heads_kv = width // heads, settings.integer("num_key_value_heads", heads)
    settings.only("head_dim", (head_length,))  # llama.cpp's phi3 knows no other
    if heads_kv == 0 or heads % heads_kv:
        raise settings.error("num_key_value_heads", f"({heads_kv}) does not divide num_attention_heads ({heads})")
    return LanguageConfig(
        vocab_size=sizes["vocab_size"],
        embedding_length=width,
        feed_forward_length=sizes["intermediate_size"],
        block_count=sizes["num_hidden_layers"],
        head_count=heads,
        head_count_kv=heads_kv,
        head_length=head_length,
        rms_norm_epsilon=settings.number("rms_norm_eps", 1e-5),
        # a window narrower than the context would change the model only beyond the window
        context_length=min(context, settings.integer("sliding_window", 0) or context),
        tied=tied,
        rope=_rope(rope, head_length, context, stated_length),
    )


def _rope(rope: Settings, head_length: int, context_length: int, stated_length: int | None) -> RopeConfig:
    kind = rope.text("rope_type", rope.text("type", "default"))
    dimensions = int(head_length * rope.number("partial_rotary_factor", 1.0))
    theta = rope.number("rope_theta", 10000.0)
    if dimensions <= 0 or dimensions % 2 or dimensions > head_length:
        raise rope.error("partial_rotary_factor", f"rotates {dimensions} of {head_length} dimensions")
    if kind == "default":
        return RopeConfig(theta, dimensions, None, None, context_length, 1.0)
    if kind not in ("longrope", "su"):
        raise rope.error("type", f"is {kind!r}; only longrope and default are supported")
    original = stated_length or context_length
    short, long = rope.numbers("short_factor"), rope.numbers("long_factor")
    if len(short) != dimensions // 2 or len(long) != dimensions // 2:
        raise rope.error("short_factor", f"and long_factor must have {dimensions // 2} entries each")
    if min(*short, *long) <= 0.0 or original < 2:
        raise ConversionError(f"{rope.source}: rope factors and the original length must be positive")
    return RopeConfig(theta, dimensions, short, long, original, _attention_factor(rope, context_length, original))


def _attention_factor(rope: Settings, context_length: int, original_length: int) -> float:
    factor = rope.number("factor", context_length / original_length)
    computed = 1.0 if factor <= 1.0 else math.sqrt(1.0 + math.log(factor) / math.log(original_length))
    return rope.number("attention_factor", computed)
