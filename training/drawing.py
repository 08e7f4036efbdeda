"""Pictures of scenes, of printed words, and of things the demo does not know."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .domain.scenes import Scene, picture_size
from .domain.words import COLOURS

if TYPE_CHECKING:
    from random import Random

_FOLDERS = [Path("/usr/share/fonts/truetype") / name for name in ("dejavu", "liberation", "liberation2", "freefont")]
_TRAINED = [
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "LiberationSans-Regular.ttf",
    "LiberationSans-Bold.ttf",
    "LiberationSerif-Regular.ttf",
    "LiberationMono-Regular.ttf",
    "FreeSans.ttf",
    "FreeMonoBold.ttf",
]
_HELD = ["FreeSansBold.ttf", "FreeSerif.ttf", "DejaVuSansMono-Bold.ttf"]


@dataclass(frozen=True)
class Word:
    """A printed word in a picture: glyphs with their boxes (left, right, top, bottom) in pixels."""

    width: int
    height: int
    text: str
    boxes: tuple[tuple[float, float, float, float], ...]
    font: str
    pixels: int
    origin: tuple[float, float]


@lru_cache(maxsize=512)
def _font(name: str, pixels: int) -> ImageFont.FreeTypeFont:
    for folder in _FOLDERS:
        if (folder / name).exists():
            return ImageFont.truetype(str(folder / name), pixels)
    raise FileNotFoundError(f"font {name} is missing")


def _corners(shape: str, radius: float) -> list[tuple[float, float]]:
    if shape == "square":
        return [(math.pi / 4 + k * math.pi / 2, radius * 1.25) for k in range(4)]
    if shape == "triangle":
        return [(-math.pi / 2 + k * 2 * math.pi / 3, radius * 1.2) for k in range(3)]
    if shape == "star":
        return [(-math.pi / 2 + k * math.pi / 5, radius * (1.25 if k % 2 == 0 else 0.5)) for k in range(10)]
    arm, thin = radius * 1.2, radius * 0.36
    points = [(arm, thin), (thin, thin), (thin, arm), (-thin, arm), (-thin, thin), (-arm, thin)]
    points += [(-x, -y) for x, y in points]
    return [(math.atan2(y, x), math.hypot(x, y)) for x, y in points]


def draw_scene(rng: Random, scene: Scene) -> Image.Image:
    """The scene in pixels, colours and angles a little different each time."""
    scale = 2 if max(scene.width, scene.height) < 300 else 1
    ground = rng.choice([(255, 255, 255)] * 3 + [(235, 235, 235), (250, 245, 225), (225, 240, 250)])
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), ground)
    draw = ImageDraw.Draw(image)
    for thing in scene.things:
        colour = tuple(max(0, min(255, value + rng.randint(-14, 14))) for value in COLOURS[thing.colour])
        x, y, radius, turn = thing.x * scale, thing.y * scale, thing.radius * scale, rng.uniform(-0.16, 0.16)
        if thing.shape == "circle":
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
            continue
        points = [(x + r * math.cos(a + turn), y + r * math.sin(a + turn)) for a, r in _corners(thing.shape, radius)]
        draw.polygon(points, fill=colour)
    return image.resize((scene.width, scene.height), Image.Resampling.BOX) if scale > 1 else image


def place_word(rng: Random, text: str, held: bool = False, size: tuple[int, int] | None = None) -> Word:
    """Choose picture size, font and place for a word, so that every glyph stays readable after tiling."""
    while True:
        width, height = size or picture_size(rng)
        name = rng.choice(_HELD if held else _TRAINED)
        share = rng.uniform(0.4, 0.92)
        reference = _font(name, 40)
        pixels = int(min(40 * share * width / max(1.0, reference.getlength(text)), 0.55 * height, 0.5 * width))
        if pixels >= 0.16 * min(width, height) and pixels >= 12 and pixels * max(width, height) > 0:
            break
    font = _font(name, pixels)
    left, top, right, bottom = font.getbbox(text)
    x = rng.uniform(0.03 * width, max(0.031 * width, 0.97 * width - (right - left))) - left
    middle = (height - (bottom - top)) / 2
    y = middle + rng.uniform(-0.5, 0.5) * middle - top
    starts = [x + font.getlength(text[:index]) for index in range(len(text) + 1)]
    boxes = tuple((a, b, y + top, y + bottom) for a, b in itertools.pairwise(starts))
    return Word(width, height, text, boxes, name, pixels, (x, y))


def draw_word(rng: Random, word: Word) -> Image.Image:
    """The word in pixels: dark on light, now and then light on dark."""
    ground = tuple(rng.randint(205, 255) for _ in range(3))
    ink = tuple(rng.randint(0, 90) for _ in range(3))
    if rng.random() < 0.15:
        ground, ink = ink, ground
    image = Image.new("RGB", (word.width, word.height), ground)
    ImageDraw.Draw(image).text(word.origin, word.text, font=_font(word.font, word.pixels), fill=ink)
    return image


def draw_unknown(rng: Random) -> Image.Image:
    """A picture of nothing the demo knows: blurred blobs, stripes, gradients, line art, noise."""
    width, height = picture_size(rng)
    noise = np.random.default_rng(rng.randrange(1 << 30))
    kind = rng.randrange(4)
    if kind == 0:
        coarse = noise.integers(0, 256, (rng.randint(3, 14), rng.randint(3, 14), 3), np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    if kind == 1:
        fine = noise.integers(0, 256, (max(8, height // 4), max(8, width // 4), 3), np.uint8)
        image = Image.fromarray(fine).resize((width, height), Image.Resampling.BILINEAR)
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))
    image = Image.new("RGB", (width, height), tuple(noise.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(8, 30)):
        points = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(2 if kind == 2 else rng.randint(3, 5))]
        colour = tuple(noise.integers(0, 256, 3).tolist())
        if kind == 2:
            draw.line(points, fill=colour, width=rng.randint(1, max(2, width // 30)))
        else:
            draw.polygon(points, fill=colour)
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
