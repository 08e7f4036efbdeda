"""The picture encoder in plain float64 numpy, written from the description of the model only."""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def layer_norm(x, weight, bias, epsilon):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def multi_head(x, qkv, out, n_heads, bias):
    """Attention over rows of x; qkv and out are (weight, bias), bias is added to the scores."""
    n, d = x.shape
    q, k, v = (x @ qkv[0].T + qkv[1]).reshape(n, 3, n_heads, d // n_heads).transpose(1, 2, 0, 3)
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(d // n_heads) + bias
    return (softmax(scores) @ v).transpose(1, 0, 2).reshape(n, d) @ out[0].T + out[1]


class Reference:
    """Weights in float64 by name."""

    def __init__(self, params, weights):
        self.p = params
        self.w = {name: value.astype(np.float64) for name, value in weights.items()}

    def pair(self, name):
        return self.w[f"{name}.weight"], self.w[f"{name}.bias"]

    def lin(self, x, name):
        weight, bias = self.pair(name)
        return x @ weight.T + bias

    def norm(self, x, name):
        return layer_norm(x, *self.pair(name), self.p.layer_norm_epsilon)


class ReferenceVision(Reference):
    def crop(self, pixels, mask):
        """One crop (3, c, c) with its patch mask to pooled cells (g, g, d)."""
        side, ps = self.p.patches_per_side, self.p.patch_size
        kernel = self.w["v.patch_embd.weight"].reshape(-1, 3, ps, ps)
        x = np.zeros((side * side, self.p.embedding_length))
        for r in range(side):
            for c in range(side):
                patch = pixels[:, r * ps : (r + 1) * ps, c * ps : (c + 1) * ps].astype(np.float64)
                x[r * side + c] = np.einsum("dkij,kij->d", kernel, patch) + self.w["v.patch_embd.bias"]
        x += self.w["v.position_embd.weight"][self.positions(mask)]
        bias = np.where(mask.reshape(1, 1, -1), 0.0, -np.inf)
        for i in range(self.p.block_count):
            x = self.block(x, bias, f"v.blk.{i}")
        grid = x.reshape(side // 2, 2, side // 2, 2, -1)
        return grid.mean(axis=(1, 3))

    def positions(self, mask):
        side, grid = self.p.patches_per_side, self.p.position_grid
        nh, nw = mask[:, 0].sum(), mask[0].sum()
        ids = np.zeros((side, side), int)
        for r in range(nh):
            for c in range(nw):
                ids[r, c] = (grid * r // nh) * grid + grid * c // nw
        return ids.reshape(-1)

    def block(self, x, bias, name):
        h = self.norm(x, f"{name}.ln1")
        x = x + multi_head(h, self.pair(f"{name}.attn_qkv"), self.pair(f"{name}.attn_out"), self.p.head_count, bias)
        h = self.norm(x, f"{name}.ln2")
        return x + self.lin(gelu_tanh(self.lin(h, f"{name}.ffn_up")), f"{name}.ffn_down")

    def encode(self, tiles):
        cells = [self.crop(pixels, mask) for pixels, mask in zip(tiles.pixels, tiles.patch_mask, strict=True)]
        g = self.p.patches_per_side // 2
        sub, rows = self.w["v.sub_separator"], []
        for r in range(tiles.kept_rows):
            line = [cells[1 + (r // g) * tiles.columns + c // g][r % g, c % g] for c in range(tiles.kept_columns)]
            rows.extend(line)
            rows.append(sub)
        rows.append(self.w["v.global_separator"])
        for r in range(g):
            rows.extend(cells[0][r])
            rows.append(sub)
        return self.lin(gelu_erf(self.lin(np.array(rows), "v.proj_up")), "v.proj_down")
