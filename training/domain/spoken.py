"""Which sentences are spoken, and what is the answer when nothing but the clip is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .about import NO_PICTURE, about_turn, outside_turn
from .questions import compare_turn, random_word, read_turn, scene_turn
from .requests import arithmetic_turn, chat_turn, colours_sentence, command_turn, digits_sentence
from .scenes import random_scene
from .words import Turn, held_out

if TYPE_CHECKING:
    from random import Random


def spoken_turn(rng: Random) -> Turn:
    """A sentence to be spoken; its answer in speech mode is empty when only transcription makes sense."""
    kind = rng.choices(
        ["picture", "compare", "read", "arithmetic", "command", "talk", "digits", "colours", "outside"],
        [30, 5, 2, 22, 20, 6, 5, 3, 7],
    )[0]
    if kind == "picture":
        turn = scene_turn(rng, random_scene(rng))
        return Turn("ask_" + turn.task, turn.question, NO_PICTURE)
    if kind == "compare":
        return Turn("ask_compare", compare_turn(rng, random_scene(rng), random_scene(rng)).question, NO_PICTURE)
    if kind == "read":
        return Turn("ask_read", read_turn(rng, random_word(rng)).question, NO_PICTURE)
    if kind == "arithmetic":
        return arithmetic_turn(rng)
    if kind == "command":
        return command_turn(rng)
    if kind == "talk":
        return chat_turn(rng) if rng.random() < 0.5 else about_turn(rng)
    if kind == "outside":
        return outside_turn(rng)
    return Turn(kind, digits_sentence(rng) if kind == "digits" else colours_sentence(rng), "")


def is_trained(turn: Turn) -> bool:
    """False for the sentences that are held out of every training stage."""
    return not (turn.task in ("arithmetic", "command") and held_out(turn.question))
