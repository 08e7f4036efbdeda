"""The two published layouts of a checkpoint and the one vocabulary of names used here.

``original`` is the model repository's own layout: fused adapters, ``.base_layer``. ``native``
is the one of the transformers library: adapters in folders beside it (phi4mm 6). Inside the
converter every tensor has its *canonical* name: the native one, and for adapters
``vision:`` or ``speech:`` before it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.convert.config import ADAPTER_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.convert.config import AdapterName, Layout

ADAPTER_FOLDERS: dict[AdapterName, str] = {"vision": "vision-lora", "speech": "speech-lora"}
_AUDIO = "model.embed_tokens_extend.audio_embed."
_IMAGE = "model.embed_tokens_extend.image_embed."

# original fragment, native fragment; each pair is unambiguous in both directions
_RENAMES = (
    *((f"{side}.net.0.linear.", f"{side}.gate_up_proj.") for side in ("feed_forward_in", "feed_forward_out")),
    *((f"{side}.net.2.", f"{side}.down_proj.") for side in ("feed_forward_in", "feed_forward_out")),
    *((f"self_attn.linear_{part}.", f"self_attn.{part}_proj.") for part in "qkv"),
    ("self_attn.linear_out.", "self_attn.o_proj."),
    (_IMAGE + "img_projection.0.", _IMAGE + "img_projection_up."),
    (_IMAGE + "img_projection.2.", _IMAGE + "img_projection_down."),
    (_IMAGE + "glb_GN", _IMAGE + "global_img_feature_extensor"),
    (_IMAGE + "sub_GN", _IMAGE + "sub_img_feature_extensor"),
    (_AUDIO + "audio_projection.speech.0.", _AUDIO + "up_proj_for_speech."),
    (_AUDIO + "audio_projection.speech.2.", _AUDIO + "down_proj_for_speech."),
    (_AUDIO + "audio_projection.vision.0.", _AUDIO + "up_proj_for_vision_speech."),
    (_AUDIO + "audio_projection.vision.2.", _AUDIO + "down_proj_for_vision_speech."),
)
_ORIGINAL_LORA = re.compile(r"^(.*)\.lora_([AB])\.(vision|speech)\.weight$")
_ADAPTED = re.compile(r"^model\.layers\.\d+\.(self_attn\.(qkv|o)|mlp\.(gate_up|down))_proj\.weight$")
_PEFT_PREFIXES = ("base_model.model.", "")


def detect(names: Iterable[str]) -> Layout:
    """Say which layout a list of tensor names belongs to."""
    return "original" if any(".base_layer." in name or ".lora_A." in name for name in names) else "native"


def from_original(name: str) -> str:
    """Canonical name of a tensor of the original layout; unknown names come back unchanged."""
    if match := _ORIGINAL_LORA.match(name):
        return f"{match[3]}:{match[1]}.lora_{match[2]}.weight"
    name = name.replace(".base_layer.", ".", 1) if name.startswith("model.layers.") else name
    scoped = name.startswith((_AUDIO, _IMAGE))
    for original, native in _RENAMES if scoped else ():
        name = name.replace(original, native, 1)
    return name


def to_original(name: str) -> str:
    """Name in the original layout of the tensor with canonical ``name``."""
    for adapter in ADAPTER_NAMES:
        if name.startswith(f"{adapter}:"):
            return name.removeprefix(f"{adapter}:").removesuffix("weight") + f"{adapter}.weight"
    if _ADAPTED.match(name):
        return name.removesuffix("weight") + "base_layer.weight"
    for original, native in _RENAMES if name.startswith((_AUDIO, _IMAGE)) else ():
        if name.startswith(_AUDIO) or native.startswith(_IMAGE):
            name = name.replace(native, original, 1)
    return name


def from_adapter_folder(name: str, adapter: AdapterName) -> str:
    """Canonical name of a tensor in one of the adapter folders of the native layout.

    Both known prefixes are taken: ``base_model.model.`` as the PEFT library writes it, and none.
    """
    for prefix in _PEFT_PREFIXES:
        if name.startswith(prefix + "model."):
            name = name.removeprefix(prefix)
            break
    name = name.replace(f".{adapter}.weight", ".weight") if name.endswith(f".{adapter}.weight") else name
    return f"{adapter}:{name}"
