import numpy as np
import pytest
from reference_vision import gelu_erf, gelu_tanh, softmax
from small_models import relative_error

from app.runtime.encoders.compiled import CompiledGraph


def run(cpu, build, exact=True, **inputs):
    graph = CompiledGraph(cpu, build, n_nodes=64, exact=exact)
    try:
        return graph.run(inputs)
    finally:
        graph.close()


def test_both_gelus_are_exact_over_their_whole_range(cpu):
    x = np.concatenate([np.linspace(-30, 30, 6001), [0.0, -0.0, 1e-30, -1e-30, 200, -200]]).astype(np.float32)[None]
    for name, reference in (("gelu_tanh", gelu_tanh), ("gelu_erf", gelu_erf)):
        value = run(cpu, lambda b, name=name: getattr(b, name)(b.input("x", x.shape)), x=x)
        assert np.abs(value - reference(x.astype(np.float64))).max() < 2e-6
        assert np.isfinite(value).all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("n", "heads", "size"), [(1, 1, 8), (5, 3, 7), (70, 2, 72), (130, 4, 64)])
def test_attention_with_a_mask_per_head(cpu, exact, n, heads, size):
    rng = np.random.default_rng(1)
    qkv = rng.standard_normal((1, n, 3 * heads * size)).astype(np.float32)
    mask = rng.integers(-8, 8, (1, heads, n, n)).astype(np.float32) / 4  # exact in float16
    value = run(
        cpu,
        lambda b: b.attention(b.input("qkv", qkv.shape), heads, b.attention_mask(b.input("mask", mask.shape))),
        exact,
        qkv=qkv,
        mask=mask,
    )
    q, k, v = qkv[0].astype(np.float64).reshape(n, 3, heads, size).transpose(1, 2, 0, 3)
    mixed = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(size) + mask[0]) @ v
    assert relative_error(value, mixed.transpose(1, 0, 2).reshape(n, heads * size)) < 2e-6


@pytest.mark.parametrize("width", [2, 3, 8])
@pytest.mark.parametrize("height", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 5, 32])
def test_depthwise_convolution(cpu, channels, width, height):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((height, width, channels)).astype(np.float32)
    kernel = rng.standard_normal((channels, 1, 3, 3)).astype(np.float32)
    value = run(
        cpu,
        lambda b: b.cont(b.depthwise(b.input("x", x.shape), b.input("kernel", kernel.shape), 2, 1)),
        x=x,
        kernel=kernel,
    )
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    expected = np.array(
        [
            [
                (padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel[:, 0].transpose(1, 2, 0)).sum(axis=(0, 1))
                for j in range((width + 1) // 2)
            ]
            for i in range((height + 1) // 2)
        ]
    )
    assert relative_error(value.reshape(expected.shape), expected) < 1e-6
