"""How people type: other case, missing punctuation, contractions, polite words; and short system messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import number

if TYPE_CHECKING:
    from random import Random

SYSTEM_MESSAGES = [
    "You are a helpful assistant.",
    "You are Hearsee.",
    "Answer briefly.",
    "You are Hearsee, a private assistant.",
    "Be short and friendly.",
    "You are a friendly desktop assistant. Answer in one sentence.",
]
_CONTRACTIONS = [("What is ", "What's "), ("Where is ", "Where's "), ("Who is ", "Who's "), ("How is ", "How's ")]
_BEFORE = [
    "please ",
    "can you tell me, ",
    "hey, ",
    "so, ",
    "tell me, ",
    "ok, ",
    "now, ",
    "could you say: ",
    "hearsee, ",
]
_AFTER = [" please", ", please", " now", " thanks"]
# Never used in training.
_BEFORE_HELD = ["I would like to know: ", "quick question: ", "hey hearsee, ", "well, "]
_DIGITS = {number(value): str(value) for value in range(21)}


def typed(rng: Random, text: str, held: bool = False) -> str:
    """One way somebody might type the sentence; with ``held`` a polite form never trained on."""
    text = _reworded(rng, text)
    end = text[-1] if text[-1] in ".?" else ""
    if held or rng.random() < 0.2:
        text = rng.choice(_BEFORE_HELD if held else _BEFORE) + text[0].lower() + text[1:]
        if rng.random() < 0.5:
            text = text[0].upper() + text[1:]
    if end and rng.random() < 0.08:
        text = text[:-1] + rng.choice(_AFTER) + end
    style = rng.random()
    if style < 0.28:
        text = text.lower() if style < 0.25 else text.upper()
    if end and rng.random() < 0.25:
        text = text[:-1] if rng.random() < 0.7 else text[:-1] + rng.choice([" ?", "!", "??", " .", "?"])
    return text


def _reworded(rng: Random, text: str) -> str:
    for full, short in _CONTRACTIONS:
        if text.startswith(full) and rng.random() < 0.25:
            text = text.replace(full, short)
    if "colour" in text and rng.random() < 0.2:
        text = text.replace("colour", "color")
    if any(f" {word} " in text for word in ("plus", "minus", "times")) and rng.random() < 0.4:
        text = _with_digits(rng, text)
    return text


def _with_digits(rng: Random, text: str) -> str:
    words = [_DIGITS.get(word.rstrip(".?"), word) for word in text.split()]
    text = " ".join(words)
    if rng.random() < 0.4:
        text = text.replace(" plus ", " + ").replace(" minus ", " - ").replace(" times ", " x ")
    return text + "?"


def system_message(rng: Random) -> str | None:
    """A short system message, or none in two thirds of all cases."""
    return rng.choice(SYSTEM_MESSAGES) if rng.random() < 0.35 else None
