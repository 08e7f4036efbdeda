"""Vocabulary of the demo's world, and the rule that holds sentences out of training."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "blue": (35, 70, 220),
    "green": (30, 160, 50),
    "yellow": (240, 210, 30),
    "orange": (245, 130, 20),
    "purple": (130, 40, 170),
    "black": (20, 20, 20),
    "pink": (250, 140, 190),
}
COLOUR_NAMES = list(COLOURS)
SHAPES = ["circle", "square", "triangle", "star", "cross"]
PLURAL = {shape: shape + "s" for shape in SHAPES} | {"cross": "crosses"}
SIZES = ["small", "large"]
GLYPHS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# (colour, shape) pairs that no training picture ever shows.
HELD_PAIRS = {("purple", "star"), ("orange", "triangle"), ("green", "square"), ("pink", "circle")}

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


@dataclass(frozen=True)
class Turn:
    """One question with its right answer; ``task`` names the figure it counts for."""

    task: str
    question: str
    answer: str


def number(value: int) -> str:
    """The English words of 0..100."""
    if value < 20:
        return _SMALL[value]
    if value == 100:
        return "one hundred"
    tens, ones = divmod(value, 10)
    return _TENS[tens - 2] + (" " + _SMALL[ones] if ones else "")


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[0].upper() + sentence[1:]


def held_out(text: str) -> bool:
    """True for the tenth of all sentences (and words) that training never sees."""
    return zlib.crc32(text.lower().encode()) % 10 == 0
