"""A tiny random model made by the converter, a picture, a sound, and the command as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.convert import pipeline, synthetic

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    synthetic.write_checkpoint(folder / "checkpoint", synthetic.tiny(), seed=5)
    pipeline.convert(folder / "checkpoint", folder / "tiny", "q8_0")
    return folder / "tiny"


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("media") / "red square.png"
    Image.new("RGB", (120, 80), (200, 30, 30)).save(path)
    return path


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("media") / "tone.wav"
    samples = (8000 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """A home of its own, and one thread: several tests may run beside each other."""
    own = {f"XDG_{kind}_HOME": str(tmp_path / kind.lower()) for kind in ("DATA", "CONFIG", "CACHE", "STATE")}
    unset = ("HEARSEE_DEBUG", "HEARSEE_MODEL", "HEARSEE_DEVICE")
    return {**{name: value for name, value in os.environ.items() if name not in unset}, **own}


@pytest.fixture
def hearsee(environment):
    """Runs ``hearsee`` with arguments and returns the finished process, its output as text."""

    def run(*arguments, **options):
        command = [sys.executable, "-m", "app", *map(str, arguments)]
        settings = {"stdin": subprocess.DEVNULL, "cwd": ROOT, "env": environment, "timeout": 120} | options
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, **settings)

    return run
