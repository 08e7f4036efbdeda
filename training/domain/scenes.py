"""Scenes of coloured shapes: what is where, independent of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .words import COLOUR_NAMES, HELD_PAIRS, SHAPES, SIZES, article

if TYPE_CHECKING:
    from random import Random

# Share of pictures per kind, then the width/height ratio range and the size range of the longer side.
_FORMATS: list[tuple[float, tuple[float, float], tuple[int, int]]] = [
    (0.20, (0.8, 1.25), (80, 112)),
    (0.15, (1.0, 1.0), (130, 900)),
    (0.20, (1.25, 1.5), (160, 1200)),
    (0.17, (1.6, 2.1), (160, 1200)),
    (0.10, (0.66, 0.8), (160, 1200)),
    (0.10, (0.45, 0.62), (160, 1200)),
    (0.05, (2.6, 4.2), (240, 1200)),
    (0.03, (0.24, 0.38), (240, 1200)),
]
_CENTRES = {
    "middle": (0.5, 0.5),
    "left": (0.25, 0.5),
    "right": (0.75, 0.5),
    "top": (0.5, 0.25),
    "bottom": (0.5, 0.75),
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
}
_THIRDS = {
    "left": (1 / 6, 0.5),
    "right": (5 / 6, 0.5),
    "top": (0.5, 1 / 6),
    "bottom": (0.5, 5 / 6),
    "middle": (0.5, 0.5),
}


@dataclass(frozen=True)
class Thing:
    """One shape of a scene; ``x``, ``y`` and ``radius`` in pixels of the picture."""

    size: str
    colour: str
    shape: str
    place: str
    x: float
    y: float
    radius: float

    def phrase(self, sized: bool = False) -> str:
        """'a red circle', or with its size."""
        return article((self.size + " " if sized else "") + f"{self.colour} {self.shape}")

    def where(self) -> str:
        """'on the left', 'at the top right', 'in the middle'."""
        if self.place == "middle":
            return "in the middle"
        return ("on the " if self.place in ("left", "right") else "at the ") + self.place


@dataclass(frozen=True)
class Scene:
    """A picture's content: its pixel size and the things on it."""

    width: int
    height: int
    things: tuple[Thing, ...]


def picture_size(rng: Random) -> tuple[int, int]:
    """Width and height, weighted by what users have."""
    _, ratios, sides = rng.choices(_FORMATS, [weight for weight, _, _ in _FORMATS])[0]
    ratio = rng.uniform(*ratios)
    long_side = int(sides[0] * (sides[1] / sides[0]) ** rng.random())
    if ratio >= 1:
        return long_side, max(40, round(long_side / ratio))
    return max(40, round(long_side * ratio)), long_side


def _places(rng: Random, count: int, ratio: float) -> dict[str, tuple[float, float]]:
    if count == 1:
        return {"middle": _CENTRES["middle"]}
    if ratio > 2.3:
        names = ["left", "right"] if count == 2 else ["left", "middle", "right"]
    elif ratio < 1 / 2.3:
        names = ["top", "bottom"] if count == 2 else ["top", "middle", "bottom"]
    elif count == 2:
        names = rng.choice([["left", "right"], ["top", "bottom"]])
        return {name: _CENTRES[name] for name in names}
    else:
        names = ["top left", "top right", "bottom left", "bottom right"]
        if count == 3:
            names.pop(rng.randrange(4))
        return {name: _CENTRES[name] for name in names}
    centres = _CENTRES if count == 2 else _THIRDS
    return {name: centres[name] for name in names}


def _kind(rng: Random) -> tuple[str, str, str]:
    return rng.choice(SIZES), rng.choice(COLOUR_NAMES), rng.choice(SHAPES)


def _kinds(rng: Random, count: int, held: bool) -> list[tuple[str, str, str]]:
    while True:
        kinds = [_kind(rng) for _ in range(count)]
        if count > 1 and rng.random() < 0.35:  # make equal shapes or colours common enough to count
            first, last = kinds[0], kinds[-1]
            kinds[-1] = (last[0], last[1], first[2]) if rng.random() < 0.6 else (last[0], first[1], last[2])
        found = [kind for kind in kinds if (kind[1], kind[2]) in HELD_PAIRS]
        if bool(found) == held:
            return kinds


def random_scene(
    rng: Random, held: bool = False, count: int | None = None, size: tuple[int, int] | None = None
) -> Scene:
    """A new scene; with ``held`` at least one (colour, shape) pair is one never trained on."""
    width, height = size or picture_size(rng)
    ratio = width / height
    if count is None:
        count = rng.choices([1, 2, 3], [4, 4, 2])[0]
    if ratio > 2.3 or ratio < 1 / 2.3:
        count = min(count, 3)
    places = _places(rng, count, ratio)
    short = min(width, height)
    things = []
    for (size, colour, shape), (place, (cx, cy)) in zip(_kinds(rng, count, held), places.items(), strict=True):
        jitter = 0.11 if count == 1 else 0.04
        radius = (rng.uniform(0.09, 0.12) if size == "small" else rng.uniform(0.165, 0.21)) * short
        x = width * (cx + rng.uniform(-jitter, jitter))
        y = height * (cy + rng.uniform(-jitter, jitter))
        things.append(Thing(size, colour, shape, place, x, y, radius))
    return Scene(width, height, tuple(things))
