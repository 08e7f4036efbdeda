"""Random encoders of any size as GGUF files, written from the contract's table of tensors."""

from pathlib import Path

import gguf
import numpy as np

from app.runtime.encoders.audio import audio_tensors
from app.runtime.encoders.vision import vision_tensors
from app.runtime.formats.params import FORMAT_VERSION, FORMAT_VERSION_KEY, AudioParams, VisionParams

VISION = VisionParams(
    embedding_length=48,
    feed_forward_length=80,
    block_count=3,
    head_count=3,
    layer_norm_epsilon=1e-6,
    crop_size=112,
    patch_size=14,
    position_grid=8,
    max_crops=6,
    pixel_mean=0.5,
    pixel_std=0.5,
    projection_length=56,
)
AUDIO = AudioParams(
    embedding_length=36,
    feed_forward_length=50,
    block_count=2,
    head_count=3,
    layer_norm_epsilon=1e-5,
    conv_channels=12,
    kernel_size=3,
    time_reduction=8,
    bias_max_distance=11,
    block_frames=20,
    projection_length=44,
    mel_bins=80,
    mel_high_hz=7690.0,
    sample_rate_hz=16000,
    window_length=400,
    hop_length=160,
    n_fft=512,
    preemphasis=0.97,
)


def vision_weights(params: VisionParams, seed: int = 0) -> dict[str, np.ndarray]:
    vectors, matrices = vision_tensors(params)
    return _random({**vectors, **matrices}, seed)


def audio_weights(params: AudioParams, seed: int = 0) -> dict[str, np.ndarray]:
    vectors, matrices = audio_tensors(params)
    weights = _random({**vectors, **matrices}, seed)
    weights["a.mean"] = np.full(params.mel_bins, 10, np.float32) + weights["a.mean"]
    weights["a.invstd"] = 0.2 + 0.01 * weights["a.invstd"]
    weights["a.rel_bias"] *= 5
    return weights


def _random(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: _one(rng, name, shape) for name, shape in shapes.items()}


def _one(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.standard_normal(shape)
    if name.endswith("bias") or "separator" in name or len(shape) == 1:
        values *= 0.3
    else:
        values /= np.sqrt(np.prod(shape[1:]))
    if name.endswith(("ln1.weight", "ln2.weight", "norm.weight")):
        values += 1
    return values.astype(np.float32)


def write(
    path: Path, architecture: str, params: VisionParams | AudioParams, weights: dict, kind: str = "F32", tensors_of=None
) -> Path:
    """Matrices as ``kind`` where their rows hold whole blocks, the rest F32; ``tensors_of`` where params lie."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_uint32(FORMAT_VERSION_KEY, FORMAT_VERSION)
    for key, value in params.to_metadata().items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float64}[type(value)]
        add(key, value)
    wanted = gguf.GGMLQuantizationType[kind]
    matrices = (vision_tensors if isinstance(params, VisionParams) else audio_tensors)(tensors_of or params)[1]
    for name, values in weights.items():
        fits = name in matrices and values.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        stored = wanted if fits else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    assert value.shape == reference.shape
    assert np.isfinite(value).all()
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))
