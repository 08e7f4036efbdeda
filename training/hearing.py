"""Batches of clips: picking, padding with the clips' own silence, augmenting features on the fly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .domain.spoken import is_trained
from .domain.words import Turn

if TYPE_CHECKING:
    from random import Random

    from .clips import ClipStore


def trained_order(store: ClipStore) -> list[int]:
    """Clips whose sentence may be trained on, shortest first."""
    allowed = [
        index
        for index, entry in enumerate(store.entries)
        if is_trained(Turn(entry["task"], entry["text"], entry["answer"]))
    ]
    return sorted(allowed, key=lambda index: store.entries[index]["frames"])


def window(rng: Random, order: list[int], count: int, share: float = 1.0) -> list[int]:
    """``count`` clips of similar length, from the shortest ``share`` of the order."""
    width = count * 4
    start = rng.randrange(max(1, int(len(order) * share) - width))
    return rng.sample(order[start : start + width], min(count, len(order)))


def _stretch_mels(features: np.ndarray, factor: float) -> np.ndarray:
    position = np.clip(np.arange(80) * factor, 0, 79)
    low = np.minimum(position.astype(int), 78)
    share = (position - low).astype(np.float32)
    return features[:, low] * (1 - share) + features[:, low + 1] * share


def _distort(features: np.ndarray, rng: Random) -> np.ndarray:
    noise = np.random.default_rng(rng.randrange(1 << 30))
    narrow = float(features[:, 62:].max()) == 0.0
    if rng.random() < 0.6 and not narrow:
        features = _stretch_mels(features, rng.uniform(0.92, 1.07))
    features = features + rng.uniform(-1.5, 1.5)
    if rng.random() < 0.35:
        level = rng.uniform(0.0, 7.0) + rng.uniform(-2, 1) * np.linspace(0, 1, 80)
        features = np.logaddexp(features, level + np.log(noise.gamma(2.0, 0.5, features.shape) + 1e-3))
    if narrow:
        features[:, 62:] = 0.0
    mean = float(features.mean())
    for _ in range(2):
        if rng.random() < 0.4:
            size = rng.randint(2, 12)
            start = rng.randint(0, 80 - size)
            features[:, start : start + size] = mean
        if rng.random() < 0.3:
            size = rng.randint(2, 9)
            start = rng.randint(0, max(0, len(features) - size))
            features[start : start + size] = mean
    return np.maximum(features, 0.0)


def clip_batch(store: ClipStore, chosen: list[int], rng: Random | None) -> tuple[Tensor, list[int]]:
    """Features [n, t, 80] with t a multiple of 8, and where each clip starts; with ``rng`` distorted and shifted."""
    lengths = [store.entries[index]["frames"] for index in chosen]
    starts = [rng.randint(0, 15) if rng else 0 for _ in chosen]
    total = max(start + length for start, length in zip(starts, lengths, strict=True)) + (
        rng.randint(0, 12) if rng else 0
    )
    total = -(-total // 8) * 8
    batch = np.zeros((len(chosen), total, 80), np.float32)
    for row, (index, start) in enumerate(zip(chosen, starts, strict=True)):
        features = np.asarray(store.entries[index]["features"], np.float32)
        quiet = np.concatenate([features[:9], features[-6:]])
        pick = np.random.default_rng(index).integers(len(quiet), size=total)
        batch[row] = quiet[pick]
        batch[row, start : start + len(features)] = features
        if rng:
            batch[row] = _distort(batch[row], rng)
    return torch.from_numpy(batch), starts
