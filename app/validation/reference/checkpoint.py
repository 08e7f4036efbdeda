"""A checkpoint folder in either layout, read as float32 tensors under the names of the HF-native layout."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from safetensors import safe_open

from app.common.errors import ValidationError

if TYPE_CHECKING:
    from pathlib import Path

CACHE_LIMIT_BYTES = 2 * 2**30
RENAMES = (
    (r"\.base_layer\.", "."),
    (r"(feed_forward_(?:in|out))\.net\.0\.linear\.", r"\1.gate_up_proj."),
    (r"(feed_forward_(?:in|out))\.net\.2\.", r"\1.down_proj."),
    (r"self_attn\.linear_([qkv])\.", r"self_attn.\1_proj."),
    (r"self_attn\.linear_out\.", "self_attn.o_proj."),
    (r"img_projection\.0\.", "img_projection_up."),
    (r"img_projection\.2\.", "img_projection_down."),
    (r"image_embed\.glb_GN$", "image_embed.global_img_feature_extensor"),
    (r"image_embed\.sub_GN$", "image_embed.sub_img_feature_extensor"),
    (r"audio_projection\.speech\.0\.", "up_proj_for_speech."),
    (r"audio_projection\.speech\.2\.", "down_proj_for_speech."),
    (r"audio_projection\.vision\.0\.", "up_proj_for_vision_speech."),
    (r"audio_projection\.vision\.2\.", "down_proj_for_vision_speech."),
)
ADAPTER_KEY = re.compile(r"(?:base_model\.model\.)?(model\.layers\.\d+\..*?)\.lora_([AB])(?:\.(\w+))?\.weight$")


def native_name(name: str) -> str:
    """The HF-native name of an original one; native names come back unchanged."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


class Checkpoint:
    """Lazy float32 view of a checkpoint folder.

    Attributes:
        directory: the folder.
        config: ``config.json``.
        is_original: the original layout (adapters inside the shards) rather than the HF-native one.
    """

    def __init__(self, directory: Path) -> None:
        """Index every tensor of the folder without reading any.

        Raises:
            ValidationError: no config or no safetensors files.
        """
        self.directory = directory
        self.config = self.json("config.json") or self._refuse("config.json")
        self.is_original = self.config.get("model_type") == "phi4mm"
        self._files: dict[str, tuple[Path, str]] = {}
        self._lora: dict[tuple[str, str, str], tuple[Path, str]] = {}
        self._cache: dict[tuple[Path, str], torch.Tensor] = {}
        self._index_files(sorted(directory.glob("*.safetensors")), None)
        for mode in ("vision", "speech"):
            if not self.is_original:
                self._index_files(sorted((directory / f"{mode}-lora").glob("*.safetensors")), mode)
        shards = {path for path, _ in self._files.values()} or self._refuse("*.safetensors")
        self._keep = sum(path.stat().st_size for path in shards) < CACHE_LIMIT_BYTES

    def _refuse(self, name: str) -> NoReturn:
        raise ValidationError(f"{self.directory}: has no {name}; give a checkpoint folder")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, empty when absent."""
        path = self.directory / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _index_files(self, paths: list[Path], mode: str | None) -> None:
        for path in paths:
            with safe_open(path, "pt") as shard:
                for key in shard.keys():  # noqa: SIM118 - not a dict
                    self._index_key(path, key, mode)

    def _index_key(self, path: Path, key: str, mode: str | None) -> None:
        adapter = ADAPTER_KEY.match(key)
        if adapter is None:
            self._files[native_name(key)] = (path, key)
        else:
            module, side, name = adapter.groups()
            self._lora[(name or mode or "", native_name(module), side)] = (path, key)

    def __contains__(self, name: str) -> bool:
        """Whether a tensor of this native name exists."""
        return name in self._files

    def __getitem__(self, name: str) -> torch.Tensor:
        """The tensor of this native name as float32."""
        return self._load(self._files[name])

    def get(self, name: str) -> torch.Tensor | None:
        """The tensor, or None."""
        return None if name not in self._files else self[name]

    def count(self, prefix: str) -> int:
        """How many numbered modules stand under ``prefix``."""
        found = (re.match(re.escape(prefix) + r"\.(\d+)\.", name) for name in self._files)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    def adapter(self, mode: str, module: str) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        """``(A, B, scale)`` of a linear module's adapter, or None where the mode has none there."""
        sides = [self._lora.get((mode, module, side)) for side in "AB"]
        if sides[0] is None or sides[1] is None:
            return None
        a, b = self._load(sides[0]), self._load(sides[1])
        return a, b, self._adapter_alpha(mode) / a.shape[0]

    def _adapter_alpha(self, mode: str) -> float:
        settings = self.config.get(f"{mode}_lora") or self.json(f"{mode}-lora/adapter_config.json")
        return float(settings["lora_alpha"])

    def _load(self, where: tuple[Path, str]) -> torch.Tensor:
        if where not in self._cache:
            path, key = where
            with safe_open(path, "pt") as shard:
                tensor = shard.get_tensor(key).to(torch.float32)
            if not self._keep:
                return tensor
            self._cache[where] = tensor
        return self._cache[where]
