"""The language model in float64 numpy, written from its description alone (phi4mm 1.2, 1.3, 2)."""

from __future__ import annotations

import gguf
import numpy as np


def tensors_of(path) -> dict[str, np.ndarray]:
    return {tensor.name: np.asarray(tensor.data, np.float64) for tensor in gguf.GGUFReader(path).tensors}


class Reference:
    def __init__(self, language_path, adapter_path=None):
        self.tensors = tensors_of(language_path)
        fields = gguf.GGUFReader(language_path).fields
        self.value = {key.removeprefix("phi3."): field.contents() for key, field in fields.items() if "phi3." in key}
        adapter = tensors_of(adapter_path) if adapter_path else {}
        for name in [n.removesuffix(".lora_a") for n in adapter if n.endswith(".lora_a")]:
            self.tensors[name] = self.tensors[name] + 2.0 * adapter[f"{name}.lora_b"] @ adapter[f"{name}.lora_a"]

    def logits(self, rows, *, long):
        """Logits of every row; rows are token ids or embedding rows, mixed."""
        table = self.tensors["token_embd.weight"]
        x = np.stack([table[row] if np.ndim(row) == 0 else np.asarray(row, np.float64) for row in rows])
        factors = self.tensors["rope_factors_long.weight" if long else "rope_factors_short.weight"]
        for layer in range(self.value["block_count"]):
            x = x + self._attention(self._norm(x, f"blk.{layer}.attn_norm"), layer, factors)
            x = x + self._feed_forward(self._norm(x, f"blk.{layer}.ffn_norm"), layer)
        return self._norm(x, "output_norm") @ table.T

    def _norm(self, x, name):
        epsilon = self.value["attention.layer_norm_rms_epsilon"]
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * self.tensors[f"{name}.weight"]

    def _attention(self, x, layer, factors):
        heads, kv_heads = self.value["attention.head_count"], self.value["attention.head_count_kv"]
        width = x.shape[1] // heads
        qkv = (x @ self.tensors[f"blk.{layer}.attn_qkv.weight"].T).reshape(len(x), -1, width)
        q, k, v = np.split(qkv, [heads, heads + kv_heads], axis=1)
        q, k = self._rotate(q, factors), self._rotate(k, factors)
        k, v = (np.repeat(part, heads // kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(width)
        scores[:, ~np.tri(len(x), dtype=bool)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(len(x), -1)
        return mixed @ self.tensors[f"blk.{layer}.attn_output.weight"].T

    def _rotate(self, x, factors):
        half = len(factors)
        frequencies = 1 / (factors * self.value["rope.freq_base"] ** (np.arange(half) / half))
        angles = np.arange(len(x))[:, None] * frequencies
        scale = self.value["rope.scaling.attn_factor"]
        cos, sin = (f(angles)[:, None, :] * scale for f in (np.cos, np.sin))
        first, second = x[..., :half], x[..., half : 2 * half]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin, x[..., 2 * half :]], -1)

    def _feed_forward(self, x, layer):
        gate, up = np.split(x @ self.tensors[f"blk.{layer}.ffn_up.weight"].T, 2, axis=-1)
        return (up * gate / (1 + np.exp(-gate))) @ self.tensors[f"blk.{layer}.ffn_down.weight"].T


def relative_error(found, expected) -> float:
    """L2 error of the worst row relative to that row's length."""
    rows = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    return float(rows.max())
