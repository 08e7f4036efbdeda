"""The demo's architecture: a small but real Phi4MultimodalForCausalLM, its two adapters, its media paths."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from .tokenizer import VOCABULARY, Codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tiling import Plan

CROP, PATCH, GRID, MAX_CROPS = 112, 14, 8, 2
RANK = 32
MODES = ("vision", "speech")
_ROPE_PAIRS = 24
# The real model's long factors, every second one.
_LONG = [
    1.0,
    1.250641126,
    1.564103225,
    1.956131817,
    2.446418898,
    3.059592084,
    3.826451687,
    4.785517845,
    5.984965424,
    7.485043894,
    9.36110372,
    11.70738129,
    14.64173252,
    18.31155283,
    22.90118105,
    28.64115884,
    32.1,
    32.23,
    32.61,
    32.66,
    32.71,
    32.97,
    33.49,
    44.16,
]


def _rope() -> dict[str, object]:
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0] * _ROPE_PAIRS,
        "long_factor": _LONG,
        "original_max_position_embeddings": 4096,
    }


def _vision(codec: Codec) -> dict[str, int]:
    return {
        "hidden_size": 160,
        "intermediate_size": 448,
        "num_hidden_layers": 5,
        "num_attention_heads": 5,
        "image_size": CROP,
        "crop_size": CROP,
        "patch_size": PATCH,
        "image_token_id": codec.special("<|endoftext10|>"),
    }


def _audio(codec: Codec) -> dict[str, float]:
    return {
        "hidden_size": 160,
        "intermediate_size": 320,
        "num_blocks": 5,
        "num_attention_heads": 5,
        "bias_max_distance": 500,
        "ext_pw_out_channel": 160,
        "depthwise_separable_out_channel": 160,
        "nemo_conv_channels": 64,
        "dropout_rate": 0.0,
        "audio_token_id": codec.special("<|endoftext11|>"),
    }


def demo_config(codec: Codec) -> Phi4MultimodalConfig:
    """The configuration of the demo model. Every row length is a multiple of 32, so that Q8_0 fits."""
    end = codec.special("<|endoftext|>")
    config = Phi4MultimodalConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=[codec.end, end],
        pad_token_id=end,
        sliding_window=262144,
        rope_parameters=_rope(),
        vision_config=_vision(codec),
        audio_config=_audio(codec),
    )
    for part in (config, config.vision_config, config.audio_config):
        part._attn_implementation = "eager"  # noqa: SLF001
    return config


def _initialise(name: str, weight: Tensor, layers: int) -> None:
    if "bias_values" in name:
        nn.init.zeros_(weight)
    elif "extensor" in name:
        nn.init.normal_(weight, std=0.02)
    elif "embed_tokens.weight" in name:
        nn.init.normal_(weight, std=0.04)
    elif "position_embedding" in name:
        nn.init.normal_(weight, std=0.3)
    elif ".conv." in name and weight.ndim == 4:
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    else:
        std = 0.8 * weight[0].numel() ** -0.5
        if name.endswith(("o_proj.weight", "down_proj.weight")) and "embed_tokens_extend" not in name:
            std /= math.sqrt(2 * layers)
        nn.init.normal_(weight, std=std)


def build(config: Phi4MultimodalConfig, seed: int = 0) -> Phi4MultimodalForCausalLM:
    """A freshly initialised model; transformers' own initialisation (vision std 1.0) expects a checkpoint."""
    torch.manual_seed(seed)
    model = Phi4MultimodalForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            normed = "layernorm" in name.lower() or "layer_norm" in name or name.endswith("norm.weight")
            if weight.ndim >= 2 and not normed and not name.endswith((".b1", ".b2")):
                _initialise(name, weight, config.num_hidden_layers)
        _white_is_nothing(model)
    model.lm_head.weight = model.model.embed_tokens.weight
    assert model.config.vision_config._attn_implementation == "eager"  # noqa: SLF001
    return model


def _white_is_nothing(model: Phi4MultimodalForCausalLM) -> None:
    """Let a white patch (all ones) embed to zero: otherwise the paper drowns the position embedding for a long time."""
    patch = model.model.embed_tokens_extend.image_embed.img_processor.embeddings.patch_embedding
    patch.bias.copy_(-patch.weight.sum((1, 2, 3)))


class Adapted(nn.Module):
    """A frozen linear layer with one low-rank adapter per mode (alpha / r = 2)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.mode: str | None = None
        self.a = nn.ModuleDict({mode: nn.Linear(base.in_features, RANK, bias=False) for mode in MODES})
        self.b = nn.ModuleDict({mode: nn.Linear(RANK, base.out_features, bias=False) for mode in MODES})
        for mode in MODES:
            nn.init.normal_(self.a[mode].weight, std=base.in_features**-0.5)
            nn.init.zeros_(self.b[mode].weight)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output in the current mode."""
        if self.mode is None:
            return self.base(x)
        return self.base(x) + 2 * self.b[self.mode](self.a[self.mode](x))


ADAPTED = (("self_attn", "qkv_proj"), ("self_attn", "o_proj"), ("mlp", "gate_up_proj"), ("mlp", "down_proj"))


def add_adapters(model: Phi4MultimodalForCausalLM) -> None:
    """Wrap the language model's linear layers and freeze its own weights."""
    for name, weight in model.named_parameters():
        if "embed_tokens_extend" not in name:
            weight.requires_grad_(False)
    for layer in model.model.layers:
        for part, name in ADAPTED:
            owner = getattr(layer, part)
            setattr(owner, name, Adapted(getattr(owner, name)))


def adapted_layers(model: nn.Module) -> Iterator[Adapted]:
    """All adapted layers."""
    return (module for module in model.modules() if isinstance(module, Adapted))


def set_mode(model: nn.Module, mode: str | None) -> None:
    """Switch the adapter of every layer: 'vision', 'speech' or None."""
    for layer in adapted_layers(model):
        layer.mode = mode


def see(model: Phi4MultimodalForCausalLM, crops: Tensor, masks: Tensor) -> Tensor:
    """Crops [n, 3, 112, 112] with patch masks [n, 8, 8] -> pooled cells [n, 4, 4, c] (feature_layer -2)."""
    embed = model.model.embed_tokens_extend.image_embed
    tower = embed.img_processor
    hidden = tower.embeddings(pixel_values=crops, patch_attention_mask=masks)
    bias = None
    if not bool(masks.all()):
        bias = torch.zeros(len(crops), 1, 1, GRID * GRID).masked_fill_(~masks.view(len(crops), 1, 1, -1), -1e9)
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, bias)
    grid = hidden.view(len(crops), GRID, GRID, -1).permute(0, 3, 1, 2)
    return embed.image_token_compression(grid).permute(0, 2, 3, 1)


def image_rows(model: Phi4MultimodalForCausalLM, pooled: Tensor, plans: list[Plan]) -> Tensor:
    """The projected rows of all images, one after another; ``pooled`` holds [global, crops...] per image."""
    embed = model.model.embed_tokens_extend.image_embed
    rows, start = [], 0
    for plan in plans:
        count = plan.columns * plan.rows
        rows.append(_assemble(embed, pooled[start], pooled[start + 1 : start + 1 + count], plan))
        start += 1 + count
    hidden = embed.img_projection_up(torch.cat(rows))
    return embed.img_projection_down(F.gelu(hidden))


def _assemble(embed: nn.Module, whole: Tensor, crops: Tensor, plan: Plan) -> Tensor:
    cells, width = whole.shape[0], whole.shape[-1]
    grid = crops.view(plan.rows, plan.columns, cells, cells, width).transpose(1, 2)
    grid = grid.reshape(plan.rows * cells, plan.columns * cells, width)[: plan.useful_rows, : plan.useful_columns]
    line = embed.sub_img_feature_extensor.view(1, 1, width)
    sub = torch.cat([grid, line.expand(plan.useful_rows, 1, width)], 1).reshape(-1, width)
    glob = torch.cat([whole, line.expand(cells, 1, width)], 1).reshape(-1, width)
    return torch.cat([sub, embed.global_img_feature_extensor.view(1, width), glob])


def hear(model: Phi4MultimodalForCausalLM, features: Tensor) -> Tensor:
    """Log-mel features [n, t, 80] -> encoder output [n, ceil(t / 8), c]; no mask, as for a single clip."""
    return model.model.embed_tokens_extend.audio_embed.encoder(features, None)


def audio_rows(model: Phi4MultimodalForCausalLM, hidden: Tensor, mode: str) -> Tensor:
    """Encoder output through the projector of the mode."""
    embed = model.model.embed_tokens_extend.audio_embed
    if mode == "speech":
        return embed.down_proj_for_speech(F.gelu(embed.up_proj_for_speech(hidden)))
    return embed.down_proj_for_vision_speech(F.gelu(embed.up_proj_for_vision_speech(hidden)))
