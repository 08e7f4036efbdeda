"""Write the trained model as a Hugging Face folder in the native layout, with its two adapter folders."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from .model import ADAPTED, CROP, MAX_CROPS, MODES, RANK
from .tokenizer import Codec, tokenizer_config

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Phi4MultimodalForCausalLM


def _base_state(model: Phi4MultimodalForCausalLM) -> dict[str, Tensor]:
    state = {}
    for name, tensor in model.state_dict().items():
        if ".a." in name and name.split(".a.")[1].split(".")[0] in MODES:
            continue
        if ".b." in name and name.split(".b.")[1].split(".")[0] in MODES:
            continue
        if name == "lm_head.weight":
            continue
        state[name.replace("_proj.base.weight", "_proj.weight")] = tensor.detach().float().contiguous()
    return state


def _adapter_state(model: Phi4MultimodalForCausalLM, mode: str) -> dict[str, Tensor]:
    state = {}
    for index, layer in enumerate(model.model.layers):
        for part, name in ADAPTED:
            adapted = getattr(getattr(layer, part), name)
            stem = f"model.layers.{index}.{part}.{name}"
            state[f"{stem}.lora_A.weight"] = adapted.a[mode].weight.detach().float().contiguous()
            state[f"{stem}.lora_B.weight"] = adapted.b[mode].weight.detach().float().contiguous()
    return state


def _adapter_config(mode: str) -> dict[str, object]:
    return {
        "auto_mapping": None,
        "base_model_name_or_path": "..",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": RANK,
        "task_type": "CAUSAL_LM",
        "target_modules": [name for _, name in ADAPTED],
        "use_dora": False,
        "use_rslora": False,
    }


def preprocessor_config() -> dict[str, object]:
    """The constants of image and audio preprocessing."""
    return {
        "audio_compression_rate": 8,
        "audio_downsample_rate": 1,
        "audio_feat_stride": 1,
        "dynamic_hd": MAX_CROPS,
        "crop_size": CROP,
        "size": {"height": CROP, "width": CROP},
        "patch_size": 14,
        "feature_size": 80,
        "sampling_rate": 16000,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "compression_rate": 8,
        "qformer_compression_rate": 1,
        "feat_stride": 1,
        "feature_extractor_type": "Phi4MultimodalFeatureExtractor",
        "image_processor_type": "Phi4MultimodalImageProcessorFast",
        "processor_class": "Phi4MultimodalProcessor",
    }


def _dump(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def export(model: Phi4MultimodalForCausalLM, codec: Codec, folder: Path) -> None:
    """Write config, tokenizer, float32 weights and both adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = ["Phi4MultimodalForCausalLM"]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    end = codec.special("<|endoftext|>")
    generation = {
        "_from_model_config": True,
        "bos_token_id": end,
        "eos_token_id": [codec.end, end],
        "pad_token_id": end,
    }
    _dump(folder / "generation_config.json", generation)
    _dump(folder / "preprocessor_config.json", preprocessor_config())
    codec.tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(tokenizer_config(codec) + "\n")
    save_file(_base_state(model), folder / "model.safetensors", metadata={"format": "pt"})
    for mode in MODES:
        target = folder / f"{mode}-lora"
        target.mkdir(exist_ok=True)
        _dump(target / "adapter_config.json", _adapter_config(mode))
        save_file(_adapter_state(model, mode), target / "adapter_model.safetensors", metadata={"format": "pt"})
