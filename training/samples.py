"""Conversations to train on: what is asked about which picture or clip, before any token or pixel exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .domain.about import NO_PICTURE, REFUSAL, about_turn, outside_turn
from .domain.phrasing import system_message, typed
from .domain.questions import compare_turn, random_word, read_turn, scene_turn
from .domain.requests import arithmetic_turn, chat_turn, command_turn, echo_turn
from .domain.scenes import Scene, random_scene
from .domain.spoken import is_trained
from .domain.words import Turn
from .drawing import Word, place_word
from .tiling import plan

if TYPE_CHECKING:
    from random import Random

TRANSCRIBE = "Transcribe the audio clip into text."


@dataclass(eq=False)
class Picture:
    """A picture of a scene, a word, or (None) of something unknown."""

    content: Scene | Word | None
    size: tuple[int, int]

    @property
    def tokens(self) -> int:
        """Rows it takes in the prompt."""
        return plan(*self.size).tokens


@dataclass(eq=False)
class Clip:
    """A spoken sentence; ``source`` points at a recording, ``tokens`` is set when it is batched."""

    text: str
    source: int = -1
    tokens: int = 0


Part = str | Picture | Clip
# Finds a recording of a sentence (or makes an ideal one); None when there is none.
Speaker = Callable[[str], Clip | None]


@dataclass
class Exchange:
    """One user message and its answer."""

    parts: list[Part]
    answer: str
    task: str


@dataclass
class Dialogue:
    """Shared beginning of the first user message, then independent continuations, each of one or more exchanges."""

    shared: list[Part]
    tails: list[list[Exchange]]
    system: str | None = None
    pictures: list[Picture] = field(default_factory=list)


def random_picture(rng: Random, held: bool = False) -> Picture:
    """A scene (three quarters), a word, or now and then something unknown."""
    kind = rng.random()
    if kind < 0.75:
        scene = random_scene(rng, held)
        return Picture(scene, (scene.width, scene.height))
    if kind < 0.95 or held:
        word = place_word(rng, random_word(rng), held)
        return Picture(word, (word.width, word.height))
    scene = random_scene(rng)
    return Picture(None, (scene.width, scene.height))


def picture_turn(rng: Random, picture: Picture) -> Turn:
    """A question about this one picture."""
    if isinstance(picture.content, Scene):
        return scene_turn(rng, picture.content)
    if isinstance(picture.content, Word):
        return read_turn(rng, picture.content.text)
    return Turn("refuse_picture", scene_turn(rng, random_scene(rng)).question, REFUSAL)


def _plain_turn(rng: Random) -> Turn:
    while True:
        maker = rng.choices(
            [arithmetic_turn, command_turn, about_turn, chat_turn, outside_turn, echo_turn, _without_picture],
            [3, 2.5, 2.5, 0.5, 2.5, 5, 0.6],
        )[0]
        turn = maker(rng)
        if is_trained(turn):
            return turn


def _without_picture(rng: Random) -> Turn:
    turn = scene_turn(rng, random_scene(rng))
    return Turn("no_picture", turn.question, NO_PICTURE)


def text_exchange(rng: Random) -> Exchange:
    """A typed exchange without media."""
    turn = _plain_turn(rng)
    question = turn.question if turn.task == "echo" and rng.random() < 0.7 else typed(rng, turn.question)
    return Exchange([question], turn.answer, "text_" + turn.task)


def text_dialogue(rng: Random) -> Dialogue:
    """Four typed turns: one after another, or as four beginnings."""
    turns = [text_exchange(rng) for _ in range(4)]
    tails = [turns] if rng.random() < 0.4 else [[turn] for turn in turns]
    return Dialogue([], tails, system_message(rng))


def _ask(rng: Random, turn: Turn, speak: Speaker | None) -> Exchange | None:
    if speak is None or (turn.task.startswith("text_") and rng.random() < 0.5):
        return Exchange([typed(rng, turn.question)], turn.answer, "typed_" + turn.task)
    clip = speak(turn.question)
    return clip and Exchange([clip], turn.answer, "spoken_" + turn.task)


def _questions(rng: Random, draw: Callable[[], Turn], count: int, speak: Speaker | None) -> list[Exchange]:
    found: list[Exchange] = []
    asked: set[str] = set()
    for _ in range(count * 6):
        turn = draw()
        exchange = _ask(rng, turn, speak) if turn.question not in asked else None
        asked.add(turn.question)
        if exchange:
            found.append(exchange)
        if len(found) == count:
            break
    return found


def picture_dialogue(rng: Random, count: int = 4, speak: Speaker | None = None, held: bool = False) -> Dialogue | None:
    """Questions about one picture, typed or spoken; half of all dialogues are one long conversation."""
    picture = random_picture(rng, held)
    exchanges = _questions(
        rng, lambda: picture_turn(rng, picture), count if isinstance(picture.content, Scene) else 1, speak
    )
    if not exchanges:
        return None
    if speak is None and rng.random() < 0.25:
        exchanges.insert(rng.randrange(len(exchanges) + 1), text_exchange(rng))
    if rng.random() < 0.5:
        return Dialogue([picture], [[exchange] for exchange in exchanges], system_message(rng), [picture])
    return _conversation(rng, picture, exchanges)


def _conversation(rng: Random, picture: Picture, exchanges: list[Exchange]) -> Dialogue:
    """One chain; the picture stands before or (now and then) after the first question."""
    first = exchanges[0]
    if isinstance(first.parts[0], str) and rng.random() < 0.25:
        first.parts = [first.parts[0], picture]
        return Dialogue([], [exchanges], system_message(rng), [picture])
    return Dialogue([picture], [exchanges], system_message(rng), [picture])


def compare_dialogue(rng: Random, count: int = 3, speak: Speaker | None = None) -> Dialogue | None:
    """Two pictures in one message, or a second one brought into a running conversation."""
    scenes = [random_scene(rng, count=rng.choices([1, 2, 3], [5, 4, 1])[0]) for _ in range(2)]
    pictures = [Picture(scene, (scene.width, scene.height)) for scene in scenes]
    if speak is None and rng.random() < 0.3:
        chain = _questions(rng, lambda: scene_turn(rng, scenes[0]), 1, None)
        after = _questions(rng, lambda: scene_turn(rng, scenes[1]), 2, None)
        after[0].parts = [pictures[1], *after[0].parts]
        after[0].task = after[1].task = "typed_new_picture"
        return Dialogue([pictures[0]], [chain + after], system_message(rng), pictures)
    exchanges = _questions(rng, lambda: compare_turn(rng, *scenes), count, speak)
    return (
        Dialogue(list(pictures), [[exchange] for exchange in exchanges], system_message(rng), pictures)
        if exchanges
        else None
    )


def clip_dialogue(rng: Random, clip: Clip, task: str, answer: str) -> Dialogue:
    """A recording alone: transcribe it, answer it, both with and without history."""
    tails = [] if task == "refuse" else [[Exchange([TRANSCRIBE], clip.text, "transcribe_" + task)]]
    if answer:
        tails.append([Exchange([], answer, "answer_" + task)])
    if rng.random() < 0.15:
        tails[-1].append(text_exchange(rng))
    return Dialogue([clip], tails, system_message(rng) if rng.random() < 0.5 else None)
