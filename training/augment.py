"""What rooms, microphones and lines do to a clip: speed, equalising, reverberation, noise, codecs, gain."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

RATE = 16000


def warp(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play ``factor`` times faster: pitch, formants and pace move together, as another speaker would."""
    length = max(400, int(len(samples) / factor))
    spectrum = np.fft.rfft(samples)
    keep = min(len(spectrum), length // 2 + 1)
    target = np.zeros(length // 2 + 1, np.complex128)
    target[:keep] = spectrum[:keep]
    return (np.fft.irfft(target, length) * (length / len(samples))).astype(np.float32)


def equalise(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random frequency response, with band limits now and then."""
    spectrum = np.fft.rfft(samples)
    hertz = np.linspace(0, RATE / 2, len(spectrum))
    knots = np.array([0, 150, 400, 900, 1800, 3000, 4500, 6000, 8000])
    gain = np.interp(hertz, knots, rng.normal(0, 4.0, len(knots)))
    if rng.random() < 0.3:
        gain -= 60 * np.clip((hertz - rng.uniform(3000, 7000)) / 500, 0, 1)
    if rng.random() < 0.3:
        gain -= 40 * np.clip((rng.uniform(80, 400) - hertz) / 100, 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(samples)).astype(np.float32)


def reverberate(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small synthetic room: direct sound and an exponentially decaying tail."""
    decay = rng.uniform(0.05, 0.35)
    time = np.arange(int(RATE * decay)) / RATE
    tail = rng.normal(0, 1, len(time)) * np.exp(-6.9 * time / decay)
    tail *= rng.uniform(0.1, 0.9) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return fftconvolve(samples, tail)[: len(samples)].astype(np.float32)


def _noise(length: int, rng: np.random.Generator, babble: np.ndarray | None) -> np.ndarray:
    kind = rng.integers(4)
    if kind == 3 and babble is not None and len(babble) > length:
        start = rng.integers(len(babble) - length)
        return babble[start : start + length]
    if kind == 2:
        base = rng.choice([50.0, 60.0, 100.0, 120.0])
        time = np.arange(length) / RATE
        return sum(np.sin(2 * np.pi * base * k * time + k) / k for k in (1, 2, 3, 5)) + rng.normal(0, 0.2, length)
    white = np.fft.rfft(rng.normal(0, 1, length))
    slope = rng.uniform(0.2, 1.2) if kind else 0.0
    return np.fft.irfft(white / np.maximum(1, np.arange(len(white)) / 20) ** slope, length)


def add_noise(samples: np.ndarray, rng: np.random.Generator, babble: np.ndarray | None) -> np.ndarray:
    """Noise of a random colour at 4 to 40 dB below the clip."""
    noise = _noise(len(samples), rng, babble)
    level = np.sqrt((samples**2).mean()) / (np.sqrt((noise**2).mean()) + 1e-9)
    return (samples + noise * level * 10 ** (-rng.uniform(4, 40) / 20)).astype(np.float32)


def mu_law(samples: np.ndarray) -> np.ndarray:
    """A telephone's 8-bit companding."""
    coded = np.round(np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256) * 127) / 127
    return (np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255).astype(np.float32)


def augment(
    samples: np.ndarray, rng: np.random.Generator, babble: np.ndarray | None = None, strength: float = 1.0
) -> np.ndarray:
    """One random rendering of a clean clip, with silence (or noise) around it."""
    samples = warp(samples, float(np.exp(rng.normal(0, 0.085 * strength))))
    lead, tail = int(RATE * rng.uniform(0.12, 0.5)), int(RATE * rng.uniform(0.1, 0.5))
    samples = np.concatenate([np.zeros(lead, np.float32), samples, np.zeros(tail, np.float32)])
    if rng.random() < 0.7 * strength:
        samples = equalise(samples, rng)
    if rng.random() < 0.45 * strength:
        samples = reverberate(samples, rng)
    if rng.random() < 0.8 * strength:
        samples = add_noise(samples, rng, babble)
    samples = samples / (np.abs(samples).max() + 1e-9) * float(np.exp(rng.uniform(np.log(0.04), np.log(0.98))))
    if rng.random() < 0.06 * strength:
        samples = np.clip(samples * 2.5, -1, 1)
    if rng.random() < 0.08 * strength:
        samples = mu_law(samples)
    return (np.round(np.clip(samples, -1, 1) * 32767) / 32768).astype(np.float32)
