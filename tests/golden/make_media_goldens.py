"""Writes media.npz: what PyTorch, SciPy and a literal transcription of phi4mm 4.2 give.

Run with the extra ``reference``: ``python tests/golden/make_media_goldens.py``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from scipy.signal import resample_poly

RATES = ((48000, 16000), (32000, 16000), (96000, 16000), (44100, 16000), (11025, 16000), (6000, 8000), (12345, 16000))
BICUBIC = ((24, 36, 12, 12), (21, 35, 7, 7), (12, 12, 12, 12), (10, 23, 17, 9))


def signal(n_samples: int, rate_hz: int) -> np.ndarray:
    """A chirp with a click and a faint noise, float64 in [-1, 1]."""
    t = np.arange(n_samples) / rate_hz
    x = 0.5 * np.sin(2 * np.pi * (200 + 3000 * t) * t) + 0.01 * np.random.default_rng(7).standard_normal(n_samples)
    x[n_samples // 3] += 0.4
    return x


def literal_log_mel(wav: np.ndarray, rate_hz: int) -> np.ndarray:
    """Frame by frame and bin by bin, as the published front end does it."""
    n_fft, window, hop = (512, 400, 160) if rate_hz == 16000 else (256, 200, 80)
    frames = []
    for start in range(0, (len(wav) - window) // hop * hop + 1, hop):
        y = np.array(wav[start : start + window], dtype=np.float32)
        previous = np.roll(y, 1)
        previous[0] = previous[1]
        y = (y - 0.97 * previous) * 32768
        bins = np.fft.rfft(np.hamming(window) * y, n=n_fft).astype(np.complex64)
        if rate_hz == 8000:
            bins = np.concatenate([bins[:-1], np.zeros(129)])
        frames.append(np.abs(bins).astype(np.float32))
    power = np.stack(frames) ** 2
    return np.log(np.clip(power.dot(literal_mel_matrix().T), 1.0, None))


def literal_mel_matrix() -> np.ndarray:
    def mel(f: float) -> float:
        return 1127.0 * math.log(1.0 + f / 700.0)

    centres = np.linspace(mel(0), mel(7690), 82)
    step = mel(7690) / 81
    matrix = np.zeros((80, 257), np.float32)
    for m in range(80):
        for b in range(1, int(7690 * 512 / 16000 + 0.5)):
            at = mel(b * 16000 / 512)
            if centres[m] < at < centres[m + 2]:
                matrix[m, b] = 1 - abs(centres[m + 1] - at) / step
    return matrix


def main() -> None:
    out: dict[str, np.ndarray] = {}
    for rate_in, rate_out in RATES:
        g = math.gcd(rate_in, rate_out)
        x = signal(1500, rate_in).astype(np.float32)
        out[f"samples_{rate_in}_{rate_out}"] = x
        out[f"resample_{rate_in}_{rate_out}"] = resample_poly(x.astype(np.float64), rate_out // g, rate_in // g)
    for rows, columns, height, width in BICUBIC:
        planes = np.random.default_rng(rows).uniform(-1, 1, (3, rows, columns)).astype(np.float32)
        resized = torch.nn.functional.interpolate(
            torch.from_numpy(planes)[None], size=(height, width), mode="bicubic", align_corners=False, antialias=False
        )[0]
        out[f"planes_{rows}_{columns}_{height}_{width}"] = planes
        out[f"bicubic_{rows}_{columns}_{height}_{width}"] = resized.numpy()
    for rate in (16000, 8000):
        x = signal(rate // 2 + 77, rate).astype(np.float32)
        out[f"speech_{rate}"] = x
        out[f"log_mel_{rate}"] = literal_log_mel(x, rate)
    np.savez_compressed(Path(__file__).with_name("media.npz"), **out)


if __name__ == "__main__":
    main()
