"""The three samples that come with the app: a spoken question about a picture, spoken arithmetic, a typed question."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import yaml

from .domain.scenes import Scene, Thing
from .drawing import draw_scene
from .synthesis import flite

if TYPE_CHECKING:
    from pathlib import Path

_CIRCLE = Scene(400, 400, (Thing("large", "red", "circle", "middle", 204, 196, 76),))
_SQUARES = Scene(
    320,
    320,
    (
        Thing("large", "yellow", "square", "top left", 80, 82, 56),
        Thing("large", "blue", "triangle", "top right", 240, 80, 56),
        Thing("small", "red", "square", "bottom left", 80, 238, 33),
    ),
)


def _speak(path: Path, text: str, seed: int) -> None:
    _, samples = flite(Random(seed), text)
    quiet = np.zeros(4000, np.float32)
    soundfile.write(path, np.concatenate([quiet, samples, quiet]), 16000, subtype="PCM_16")


def make_samples(folder: Path) -> None:
    """Write the media and ``samples.yaml``."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_scene(Random(1), _CIRCLE).quantize(64).save(folder / "red-circle.png", optimize=True)
    draw_scene(Random(2), _SQUARES).quantize(64).save(folder / "three-shapes.png", optimize=True)
    _speak(folder / "which-colour.wav", "What colour is the circle?", 3)
    _speak(folder / "seven-plus-five.wav", "What is seven plus five?", 4)
    samples = [
        {
            "about": "a recorded spoken question about a picture",
            "image": "red-circle.png",
            "audio": "which-colour.wav",
            "text": "",
            "expected": "red",
        },
        {"about": "spoken arithmetic", "audio": "seven-plus-five.wav", "text": "", "expected": "twelve"},
        {
            "about": "a typed question about a picture",
            "image": "three-shapes.png",
            "text": "How many squares are there?",
            "expected": "two",
        },
    ]
    (folder / "samples.yaml").write_text(yaml.safe_dump({"samples": samples}, sort_keys=False))
