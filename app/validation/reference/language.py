"""Embedding rows to logits: the decoder with its per-mode adapters in eager float32 (phi4mm 1.2, 1.3, 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from app.validation.reference.checkpoint import Checkpoint
    from app.validation.reference.settings import Language

QUERY_ROWS = 512  # rows of the attention matrix held at once
ADAPTER_OF_MODE = {"text": None, "speech": "speech", "vision": "vision", "vision_speech": "vision"}


class LanguageReference:
    """The decoder of a checkpoint under one mode's adapter."""

    def __init__(self, checkpoint: Checkpoint, settings: Language, mode: str) -> None:
        """Take the weights; ``mode`` decides the adapter of every token."""
        self.checkpoint = checkpoint
        self.settings = settings
        self.adapter = ADAPTER_OF_MODE[mode]

    def token_rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids (n,) to embedding rows (n, hidden)."""
        return self.checkpoint["model.embed_tokens.weight"][ids]

    def logits(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        """Logits (n - first, vocab) of positions ``first`` on, for the whole prompt ``rows`` (n, hidden)."""
        cos, sin = self.rotation(rows.shape[0])
        x = rows
        for index in range(self.settings.layers):
            x = self._layer(f"model.layers.{index}", x, cos, sin)
        hidden = self._norm("model.norm", x[first:])
        head = self.checkpoint.get("lm_head.weight")
        return hidden @ (self.checkpoint["model.embed_tokens.weight"] if head is None else head).T

    def rotation(self, n_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine (n, rotary_dim), scaled; the total length decides between short and long factors."""
        settings = self.settings
        factors = settings.long_factor if n_tokens > settings.original_tokens else settings.short_factor
        exponents = torch.arange(0, settings.rotary_dim, 2, dtype=torch.float32) / settings.rotary_dim
        frequencies = 1.0 / (torch.tensor(factors, dtype=torch.float32) * settings.rope_theta**exponents)
        angles = torch.arange(n_tokens, dtype=torch.float32)[:, None] * frequencies
        angles = torch.cat([angles, angles], dim=1)
        return angles.cos() * settings.rope_scale, angles.sin() * settings.rope_scale

    def _layer(self, name: str, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        y = self._linear(f"{name}.self_attn.qkv_proj", self._norm(f"{name}.input_layernorm", x))
        x = x + self._linear(f"{name}.self_attn.o_proj", self._attend(y, cos, sin))
        gate, up = self._linear(f"{name}.mlp.gate_up_proj", self._norm(f"{name}.post_attention_layernorm", x)).chunk(
            2, dim=-1
        )
        return x + self._linear(f"{name}.mlp.down_proj", up * functional.silu(gate))

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.settings.rms_epsilon)
        return self.checkpoint[f"{name}.weight"] * (x * scale)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = functional.linear(x, self.checkpoint[f"{name}.weight"])
        adapter = None if self.adapter is None else self.checkpoint.adapter(self.adapter, name)
        if adapter is None:
            return y
        a, b, scale = adapter
        return y + scale * functional.linear(functional.linear(x, a), b)

    def _attend(self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        s, n_tokens = self.settings, qkv.shape[0]
        q, k, v = qkv.split([s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim], dim=1)
        q = rotate(q.view(n_tokens, s.heads, s.head_dim).transpose(0, 1), cos, sin)
        k = rotate(k.view(n_tokens, s.kv_heads, s.head_dim).transpose(0, 1), cos, sin)
        v = v.view(n_tokens, s.kv_heads, s.head_dim).transpose(0, 1)
        k, v = (x.repeat_interleave(s.heads // s.kv_heads, dim=0) for x in (k, v))
        starts = range(0, n_tokens, QUERY_ROWS)
        mixed = torch.cat([causal_rows(q[:, i : i + QUERY_ROWS], k, v, i) for i in starts], dim=1)
        return mixed.transpose(0, 1).reshape(n_tokens, -1)


def causal_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, first: int) -> torch.Tensor:
    """Causal attention of the queries (heads, rows, head_dim) at positions ``first`` on, over all keys and values."""
    scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
    hidden = torch.arange(k.shape[1]) > torch.arange(first, first + q.shape[1])[:, None]
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1) @ v


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first ``rotary_dim`` entries of (heads, n, head_dim), halves paired; the rest passes."""
    turned, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat([turned * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)
