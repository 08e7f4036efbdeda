"""The store of spoken clips: made in chunks by any number of processes, read while it still grows."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import resample_poly

from .augment import augment
from .domain.spoken import is_trained, spoken_turn
from .logmel import log_mel
from .synthesis import espeak, festival, flite, train_voice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .domain.words import Turn

CHUNK = 400
MAX_FRAMES = 600


def _features(samples: np.ndarray, narrow: bool) -> np.ndarray:
    if narrow:
        return log_mel(resample_poly(samples, 1, 2).astype(np.float32), 8000)
    return log_mel(samples)


class ChunkWriter:
    """Collects clips and writes ``name-NNN.npy`` with ``name-NNN.json`` beside it, atomically."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.features: list[np.ndarray] = []
        self.entries: list[dict[str, object]] = []

    def add(self, turn: Turn, voice: str, features: np.ndarray) -> None:
        """One clip with the sentence spoken and its answer."""
        if not 20 <= len(features) <= MAX_FRAMES:
            return
        self.features.append(features.astype(np.float16))
        entry = {
            "task": turn.task,
            "text": turn.question,
            "answer": turn.answer,
            "voice": voice,
            "frames": len(features),
        }
        self.entries.append(entry)

    def flush(self, index: int) -> None:
        """Write what was collected as chunk ``index``; the JSON comes last and makes it visible."""
        stem = self.folder / f"{self.name}-{index:03d}"
        np.save(stem.with_suffix(".npy"), np.concatenate(self.features))
        temporary = stem.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.entries))
        temporary.rename(stem.with_suffix(".json"))
        self.features, self.entries = [], []


def make_training_clips(folder: Path, worker: int, chunks: int, renderings: int = 2) -> None:
    """Write this worker's chunks, skipping those that exist; each clip in several augmented renderings."""
    folder.mkdir(parents=True, exist_ok=True)
    babble: list[np.ndarray] = []
    for index in range(chunks):
        if (folder / f"train-{worker}-{index:03d}.json").exists():
            continue
        rng, noise = Random(f"{worker}/{index}"), np.random.default_rng([worker, index])
        writer = ChunkWriter(folder, f"train-{worker}")
        while len(writer.entries) < CHUNK * renderings:
            turn = spoken_turn(rng)
            if not is_trained(turn):
                continue
            voice, samples = train_voice(rng, turn.question)
            babble = ([*babble, samples])[-12:]
            background = _mix(babble[:-1])
            for _ in range(renderings):
                writer.add(turn, voice, _features(augment(samples, noise, background), noise.random() < 0.06))
        writer.flush(index)


def _mix(clips: list[np.ndarray]) -> np.ndarray | None:
    if len(clips) < 6:
        return None
    mixed = np.zeros(6 * 16000, np.float32)
    for index, clip in enumerate(clips):
        start = (index * 9973) % 16000
        repeated = np.resize(clip, len(mixed) - start)
        mixed[start:] += repeated
    return mixed


def held_out_sentences(seed: int, count: int) -> list[Turn]:
    """Sentences for the tests: trained and never trained ones, as they come."""
    rng = Random(seed)
    return [spoken_turn(rng) for _ in range(count)]


def make_test_clips(folder: Path, count: int) -> None:
    """Voices never trained on, mildly augmented: ``held`` (trained engines) and ``other`` (Festival, left out)."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(77)
    rng = Random(78)
    held, other = ChunkWriter(folder, "held"), ChunkWriter(folder, "other")
    for turn in held_out_sentences(79, count):
        voice, samples = (flite if rng.random() < 0.3 else espeak)(rng, turn.question, held=True)
        held.add(turn, voice, log_mel(augment(samples, noise, strength=0.4)))
    held.flush(0)
    for number, name in enumerate(("ked_diphone", "cmu_us_slt_arctic_hts")):
        turns = held_out_sentences(80 + number, count // 3)
        for turn, samples in zip(turns, festival([turn.question for turn in turns], name), strict=True):
            other.add(turn, "festival " + name, log_mel(augment(samples, noise, strength=0.4)))
    other.flush(0)


class ClipStore:
    """Every finished chunk of a folder, memory mapped."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.seen: set[str] = set()
        self.entries: list[dict[str, object]] = []
        self.by_text: dict[str, list[int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take up chunks that were finished since the last call."""
        for path in self._new_chunks():
            features = np.load(path.with_suffix(".npy"), mmap_mode="r")
            start = 0
            for entry in json.loads(path.read_text()):
                entry["features"] = features[start : start + entry["frames"]]
                start += entry["frames"]
                self.by_text.setdefault(entry["text"], []).append(len(self.entries))
                self.entries.append(entry)

    def _new_chunks(self) -> Iterator[Path]:
        for path in sorted(self.folder.glob(f"{self.name}-*.json")):
            if path.name not in self.seen:
                self.seen.add(path.name)
                yield path
