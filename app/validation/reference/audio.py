"""Log-mel frames to embedding rows: subsampling, conformer and projectors in eager float32 (phi4mm 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from app.validation.reference.settings import AUDIO_EMBED, Sound
from app.validation.reference.vision import attention, layer_norm, linear

if TYPE_CHECKING:
    from app.validation.reference.checkpoint import Checkpoint

ENCODER = f"{AUDIO_EMBED}.encoder"
BLOCK_FRAMES = 500
LAYER_NORM_EPSILON = 1e-5
Projector = Literal["speech", "vision_speech"]


class AudioReference:
    """The sound path of a checkpoint; every clip is encoded alone."""

    def __init__(self, checkpoint: Checkpoint, settings: Sound) -> None:
        """Take the weights."""
        self.checkpoint = checkpoint
        self.settings = settings
        self.layers = checkpoint.count(f"{ENCODER}.encoders")

    def embed(self, frames: torch.Tensor, projector: Projector) -> torch.Tensor:
        """Log-mel (n_frames, mel_bins) to rows (ceil(n_frames / 8), hidden)."""
        encoded = self.encode(frames)
        up = functional.gelu(linear(self.checkpoint, f"{AUDIO_EMBED}.up_proj_for_{projector}", encoded))
        return linear(self.checkpoint, f"{AUDIO_EMBED}.down_proj_for_{projector}", up)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Log-mel to encoder frames (ceil(n_frames / 8), d); beyond 40 s in blocks that do not see each other."""
        mean, inverse_std = (
            self.checkpoint[f"{ENCODER}.encoder_embedding.global_{name}"] for name in ("mean", "invstd")
        )
        x = self.subsample((frames - mean) * inverse_std)
        n_frames = x.shape[0]
        if n_frames > BLOCK_FRAMES:
            x = functional.pad(x, (0, 0, 0, -n_frames % BLOCK_FRAMES))
        return torch.cat([self._conformer(block) for block in x.split(BLOCK_FRAMES)])[:n_frames]

    def subsample(self, x: torch.Tensor) -> torch.Tensor:
        """Three stride-two stages: (n_frames, mel_bins) to (ceil(n_frames / 8), d)."""
        x = functional.relu(self._conv2d(0, x[None, None], groups=1, stride=2, padding=1))
        for depthwise, pointwise in ((2, 3), (5, 6)):
            x = self._conv2d(depthwise, x, groups=x.shape[1], stride=2, padding=1)
            x = functional.relu(self._conv2d(pointwise, x, groups=1, stride=1, padding=0))
        flat = x[0].transpose(0, 1).flatten(1)
        return linear(self.checkpoint, f"{ENCODER}.embed.out", flat)

    def _conv2d(self, index: int, x: torch.Tensor, *, groups: int, stride: int, padding: int) -> torch.Tensor:
        weight, bias = (self.checkpoint[f"{ENCODER}.embed.conv.{index}.{part}"] for part in ("weight", "bias"))
        return functional.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)

    def _conformer(self, x: torch.Tensor) -> torch.Tensor:
        bias = self.relative_bias(x.shape[0])
        for index in range(self.layers):
            x = self._block(f"{ENCODER}.encoders.{index}", x, bias)
        return x

    def relative_bias(self, n_frames: int) -> torch.Tensor:
        """Learned bias (heads, n, n) by key minus query distance, clipped to the table."""
        table = self.checkpoint[f"{ENCODER}.relative_attention_bias_layer.bias_values.weight"]
        distance = table.shape[0] // 2
        steps = torch.arange(n_frames)
        index = (steps[None, :] - steps[:, None]).clamp(-distance, distance - 1) + distance
        return table[index].permute(2, 0, 1)

    def _block(self, name: str, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self._feed_forward(f"{name}.feed_forward_in", x)
        y = self._norm(f"{name}.layer_norm_att", x)
        q, k, v = (linear(self.checkpoint, f"{name}.self_attn.{part}_proj", y) for part in "qkv")
        x = x + linear(self.checkpoint, f"{name}.self_attn.o_proj", attention(q, k, v, self.settings.heads, bias))
        x = x + self._convolution(f"{name}.conv", x)
        x = x + 0.5 * self._feed_forward(f"{name}.feed_forward_out", x)
        return self._norm(f"{name}.layer_norm", x)

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(self.checkpoint, name, x, LAYER_NORM_EPSILON)

    def _feed_forward(self, name: str, x: torch.Tensor) -> torch.Tensor:
        value, gate = linear(self.checkpoint, f"{name}.gate_up_proj", self._norm(f"{name}.layer_norm", x)).chunk(
            2, dim=-1
        )
        return linear(self.checkpoint, f"{name}.down_proj", value * functional.silu(gate))

    def _convolution(self, name: str, x: torch.Tensor) -> torch.Tensor:
        x = self._conv1d(f"{name}.glu.ext_pw_conv_1d", self._norm(f"{name}.layer_norm", x).T[None])
        value, gate = x.chunk(2, dim=1)
        value, gate = value + self.checkpoint[f"{name}.glu.b1"], gate + self.checkpoint[f"{name}.glu.b2"]
        x = value * functional.silu(gate)
        kernel = self.checkpoint[f"{name}.dw_sep_conv_1d.dw_conv.weight"].shape[-1]
        x = self._conv1d(f"{name}.dw_sep_conv_1d.dw_conv", functional.pad(x, (kernel - 1, 0)), groups=x.shape[1])
        x = functional.silu(self._conv1d(f"{name}.dw_sep_conv_1d.pw_conv", x))
        return self._conv1d(f"{name}.ext_pw_conv_1d", x)[0].T

    def _conv1d(self, name: str, x: torch.Tensor, groups: int = 1) -> torch.Tensor:
        return functional.conv1d(x, self.checkpoint[f"{name}.weight"], self.checkpoint[f"{name}.bias"], groups=groups)
