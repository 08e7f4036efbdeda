"""The sound encoder in plain float64 numpy, written from the description of the model only."""

import numpy as np
from reference_vision import Reference, gelu_erf, multi_head


def swish(x):
    return x / (1 + np.exp(-x))


def conv_3x3_stride_2(x, kernel, bias, *, depthwise):
    """x (channels in, time, bins), kernel (channels, 1, 3, 3), zero padding 1 on all sides."""
    n_t, n_b = (x.shape[1] + 1) // 2, (x.shape[2] + 1) // 2
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    out = np.zeros((len(kernel), n_t, n_b))
    for i in range(3):
        for j in range(3):
            seen = padded[:, i : i + 2 * n_t : 2, j : j + 2 * n_b : 2]
            out += kernel[:, 0, i, j, None, None] * (seen if depthwise else seen[0])
    return out + bias[:, None, None]


class ReferenceAudio(Reference):
    def subsample(self, log_mel):
        x = ((log_mel.astype(np.float64) - self.w["a.mean"]) * self.w["a.invstd"])[None]
        x = np.maximum(conv_3x3_stride_2(x, *self.pair("a.sub.conv0"), depthwise=False), 0)
        for i in (1, 2):
            x = conv_3x3_stride_2(x, *self.pair(f"a.sub.dw{i}"), depthwise=True)
            weight, bias = self.pair(f"a.sub.pw{i}")
            x = np.maximum(np.einsum("oc,ctb->otb", weight, x) + bias[:, None, None], 0)
        return self.lin(x.transpose(1, 0, 2).reshape(x.shape[1], -1), "a.sub.out")

    def stretch(self, x):
        n, limit = len(x), self.p.bias_max_distance
        distance = np.arange(n)[None, :] - np.arange(n)[:, None]
        bias = self.w["a.rel_bias"][np.clip(distance, -limit, limit - 1) + limit].transpose(2, 0, 1)
        for i in range(self.p.block_count):
            x = self.block(x, bias, f"a.blk.{i}")
        return x

    def block(self, x, bias, name):
        x = x + 0.5 * self.feed_forward(x, f"{name}.ffn1")
        h = self.norm(x, f"{name}.attn.norm")
        x = x + multi_head(h, self.pair(f"{name}.attn.qkv"), self.pair(f"{name}.attn.out"), self.p.head_count, bias)
        x = x + self.convolution(x, f"{name}.conv")
        x = x + 0.5 * self.feed_forward(x, f"{name}.ffn2")
        return self.norm(x, f"{name}.norm")

    def feed_forward(self, x, name):
        value, gate = np.split(self.lin(self.norm(x, f"{name}.norm"), f"{name}.up"), 2, axis=-1)
        return self.lin(value * swish(gate), f"{name}.down")

    def convolution(self, x, name):
        value, gate = np.split(self.lin(self.norm(x, f"{name}.norm"), f"{name}.glu"), 2, axis=-1)
        x, k = value * swish(gate), self.p.kernel_size
        padded = np.concatenate([np.zeros((k - 1, x.shape[1])), x])
        kernel = self.w[f"{name}.dw.weight"]
        x = sum(kernel[:, j] * padded[j : j + len(x)] for j in range(k)) + self.w[f"{name}.dw.bias"]
        return self.lin(swish(self.lin(x, f"{name}.pw1")), f"{name}.pw2")

    def encode(self, log_mel):
        x, size = self.subsample(log_mel), self.p.block_frames
        if len(x) <= size:
            return self.stretch(x)
        n = len(x)
        x = np.concatenate([x, np.zeros((-n % size, x.shape[1]))])
        return np.concatenate([self.stretch(part) for part in x.reshape(-1, size, x.shape[1])])[:n]

    def project(self, frames, projector):
        return self.lin(gelu_erf(self.lin(frames, f"a.proj.{projector}.up")), f"a.proj.{projector}.down")
