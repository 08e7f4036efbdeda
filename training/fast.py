"""The audio encoder's convolutions in a layout that trains several times faster on a CPU; the mathematics is unchanged.

Depthwise convolutions in bfloat16 and the default layout take most of the encoder's time; in float32 and channels-last
they are ten times cheaper. Pointwise ones are matrix products.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812

if TYPE_CHECKING:
    from torch import Tensor, nn


def _subsample(self: Any, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    with torch.autocast("cpu", enabled=False):
        image = hidden.float().unsqueeze(1).contiguous(memory_format=torch.channels_last)
        image = self.conv(image)
    batch, _, steps, _ = image.shape
    return self.out(image.transpose(1, 2).reshape(batch, steps, -1)), mask


def _convolve(self: Any, hidden: Tensor) -> Tensor:
    hidden = self.layer_norm(hidden)
    wide = F.linear(hidden, self.glu.ext_pw_conv_1d.weight[..., 0], self.glu.ext_pw_conv_1d.bias)
    value, gate = wide.chunk(2, -1)
    hidden = (value + self.glu.b1.view(-1)) * F.silu(gate + self.glu.b2.view(-1))
    depth, point = self.dw_sep_conv_1d.dw_conv, self.dw_sep_conv_1d.pw_conv
    steps = hidden.shape[1]
    padded = F.pad(hidden, (0, 0, 2, 0))
    taps = depth.weight[:, 0].to(hidden.dtype)
    hidden = sum(padded[:, k : k + steps] * taps[:, k] for k in range(3)) + depth.bias.to(hidden.dtype)
    hidden = F.silu(F.linear(hidden, point.weight[..., 0], point.bias))
    return F.linear(hidden, self.ext_pw_conv_1d.weight[..., 0], self.ext_pw_conv_1d.bias)


def speed_up(encoder: nn.Module) -> None:
    """Replace the forward passes of the subsampling and of every convolution module."""
    encoder.embed.conv.to(memory_format=torch.channels_last)
    encoder.embed.forward = MethodType(_subsample, encoder.embed)
    for layer in encoder.encoders:
        layer.conv.forward = MethodType(_convolve, layer.conv)
