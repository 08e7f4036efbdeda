"""A generated suite that walks every path of the model: modes, rope regimes, tilings, sample rates, turns.

Media are synthetic (noise, triangle tones, gradients, boxes), made from a seed by integer arithmetic, so the same
bytes come out on every machine and the files need not be kept in the repository. The suite is for models with small
crops and a small original context.
"""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from PIL import Image

from app.validation.suite import SUITE_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PROSE = "The quick onyx goblin jumps over a lazy dwarf while 37 blue boxes wait; nobody asked why. "
# name: (width, height, Pillow mode)
PICTURES = {
    "square.png": (56, 56, "RGB"),
    "wide.png": (131, 47, "RGB"),
    "tall.png": (45, 203, "RGB"),
    "small.png": (17, 23, "RGB"),
    "large.png": (611, 402, "RGB"),
    "photo.jpg": (150, 110, "RGB"),
    "grey.png": (90, 70, "L"),
    "alpha.png": (64, 100, "RGBA"),
    "palette.png": (99, 61, "P"),
}
# name: (rate in Hz, samples, channels)
SOUNDS = {
    "short.wav": (16000, 27345, 1),
    "tiny.wav": (16000, 400, 1),
    "narrow.wav": (8000, 14003, 1),
    "studio.wav": (48000, 70001, 2),
    "disc.wav": (44100, 52347, 1),
    "long.wav": (16000, 693007, 1),
    "narrow_long.wav": (8000, 328081, 1),
}


def write_sample_suite(directory: Path, seed: int = 0, without: Collection[str] = ()) -> None:
    """Write ``suite.yaml`` and its media into ``directory``; cases named in ``without`` are left out."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)  # its stream is frozen, unlike that of newer generators
    for name, (width, height, mode) in PICTURES.items():
        picture = Image.fromarray(_pixels(random, width, height))
        picture.convert(mode).save(directory / name, **({"quality": 90} if name.endswith(".jpg") else {}))
    for name, (rate_hz, n_samples, channels) in SOUNDS.items():
        _write_wav(directory / name, _samples(random, rate_hz, n_samples, channels), rate_hz)
    cases = [case for case in _interleaved(list(_cases())) if case["id"] not in without]
    text = yaml.safe_dump({"cases": cases}, allow_unicode=True, sort_keys=False, width=120)
    (directory / SUITE_NAME).write_text(text, encoding="utf-8")


def _pixels(random: np.random.RandomState, width: int, height: int) -> NDArray[np.uint8]:
    x, y = np.arange(width), np.arange(height)[:, None]
    planes = [(x * 255 // max(width - 1, 1)) + 0 * y, (y * 255 // max(height - 1, 1)) + 0 * x, (x * 7 + y * 5) % 256]
    pixels = np.stack(planes, axis=-1)
    for _ in range(4):
        left, top = random.randint(width), random.randint(height)
        pixels[top : top + 1 + height // 3, left : left + 1 + width // 3] = random.randint(0, 256, 3)
    return np.clip(pixels + random.randint(-12, 13, pixels.shape), 0, 255).astype(np.uint8)


def _samples(random: np.random.RandomState, rate_hz: int, n_samples: int, channels: int) -> NDArray[np.int16]:
    step = np.arange(n_samples)[:, None]
    period = rate_hz // np.array([[150, 410, 1130]])
    triangles = np.abs(step % period * 2 - period) * 6000 // period
    loudness = 1 + (step // (rate_hz // 5)) % 4  # syllables of a fifth of a second
    noise = random.randint(-900, 901, (n_samples, channels))
    return ((triangles.sum(axis=1, keepdims=True) - 9000) * loudness // 4 + noise).astype(np.int16)


def _write_wav(path: Path, samples: NDArray[np.int16], rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def _part(value: str) -> dict[str, str]:
    kind = "image" if value in PICTURES else "audio" if value in SOUNDS else "text"
    return {kind: value}


def _message(role: str, *parts: str) -> dict[str, Any]:
    return {"role": role, "parts": [_part(part) for part in parts]}


def _case(name: str, answer: str, *messages: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "messages": list(messages), "answer": answer}


def _cases() -> Iterator[dict[str, Any]]:
    yield from _text_cases()
    yield from _picture_cases()
    yield from _sound_cases()
    yield from _mixed_cases()


def _text_cases() -> Iterator[dict[str, Any]]:
    box = _message("user", "What is this?"), _message("assistant", "A box, I think.")
    special = "a<|end|><|endoftext10|> <|user|>b<|audio_1|><|image_1|>"
    spaced = _message("system", "\n \t system \n"), _message("user", " \u3000\u2028 spaced", " out ", "\n")
    yield _case("text", "Forty-two.", _message("user", "What is six times seven?"))
    yield _case("text_turns", "Because.", _message("system", "Be brief."), *box, _message("user", "Why?"))
    yield _case("text_special_strings", "<|end|> no", _message("user", special))
    yield _case("text_white_space", " yes\n", *spaced)
    yield _case("text_file_separator", "ok", _message("user", "\u2029\x1c\u200b kept"))
    yield _case("text_unicode", "d’accord ✓", _message("user", "naïve Ünï¢ødé 数学 🙂 \u0301 İ"))
    yield _case("text_empty", "", _message("user", ""))
    yield _case("text_long", "Nobody.", _message("user", PROSE * 30 + "Who asked?"))


def _picture_cases() -> Iterator[dict[str, Any]]:
    square = _message("system", "Look!"), _message("user", "square.png", "What?"), _message("assistant", "A square.")
    turns = *square, _message("user", "And ", "tall.png", " this?")
    several = "photo.jpg", "grey.png", " and ", "alpha.png", "palette.png", " are?"
    yield _case("vision", "A square.", _message("user", "square.png", "What is this?"))
    yield _case("vision_wide", "Wide.", _message("user", "wide.png", "Which shape?"))
    yield _case("vision_tall", "Tall.", _message("user", "tall.png", "Which shape?"))
    yield _case("vision_small", "Small.", _message("user", "small.png"))
    yield _case("vision_large", "Large.", _message("user", "large.png", "Which shape?"))
    yield _case("vision_several", "Three.", _message("user", *several))
    yield _case("vision_turns", "Blue.", *turns)
    yield _case("vision_turns_long", "Red.", *turns, _message("assistant", "Blue."), _message("user", PROSE * 20))


def _sound_cases() -> Iterator[dict[str, Any]]:
    several = "First: ", "tiny.wav", " then ", "short.wav", "narrow.wav", "?"
    yield _case("speech", "A hum.", _message("user", "short.wav", "What do you hear?"))
    yield _case("speech_narrow", "Low.", _message("user", "narrow.wav", " What?"))
    yield _case("speech_studio", "High.", _message("user", "studio.wav", "\nWhat?"))
    yield _case("speech_disc", "Disc.", _message("user", "disc.wav"))
    yield _case("speech_several", "Two.", _message("user", *several))
    yield _case("speech_long", "Long.", _message("user", "long.wav", "How long?"))
    yield _case("speech_narrow_long", "Long.", _message("user", "narrow_long.wav", "How long?"))


def _mixed_cases() -> Iterator[dict[str, Any]]:
    seen = _message("user", "Hear ", "narrow.wav", " see ", "grey.png", " hear ", "short.wav", ".")
    mixed = seen, _message("assistant", "\n I did."), _message("user", "large.png", "tiny.wav")
    yield _case("vision_speech", "A question.", _message("user", "wide.png", "short.wav"))
    yield _case("vision_speech_mixed", "Both.", *mixed)
    yield _case("vision_speech_long", "End.", _message("user", "long.wav", "large.png", "Well?"))


def _interleaved(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases in an order that changes the mode nearly every time."""
    return [case for start in range(5) for case in cases[start::5]]
