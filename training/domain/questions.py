"""Questions about one scene, about a printed word, and about two pictures, with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import COLOUR_NAMES, PLURAL, SHAPES, Turn, article, capital, number

if TYPE_CHECKING:
    from random import Random

    from .scenes import Scene, Thing

PICTURE_KINDS = ["describe", "count", "count_kind", "colour", "shape", "where", "at", "exists", "size"]
_WEIGHTS = [1.5, 0.7, 2.0, 1.2, 1.0, 2.0, 1.6, 1.8, 0.9]
_DESCRIBE = ["What is in the picture?", "What do you see?", "Describe the picture.", "What can you see?"]
_COUNT = ["How many shapes are there?", "How many shapes do you see?"]
READ = ["What does it say?", "Read the word.", "What is written here?", "Read the text."]
LEXICON = (
    "HELLO HOME STOP EXIT OPEN PUSH PULL TAXI CAFE HOTEL BANK MUSIC MENU START SALE FREE NEW COLD HOT WATER MILK TEA "
    "FISH BIRD CAT DOG TREE ROSE SUN MOON STAR YES NO OK GO LEFT RIGHT UP DOWN RED BLUE GREEN"
)


def random_word(rng: Random) -> str:
    """A printed word or number: two thirds from a small lexicon, the rest numbers of one or two digits."""
    return rng.choice(LEXICON.split()) if rng.random() < 0.67 else str(rng.randrange(100))


def read_turn(rng: Random, word: str) -> Turn:
    """Ask for the printed word or number."""
    forms = READ + (["What number is this?", "Read the number."] if word.isdigit() else [])
    return Turn("read", rng.choice(forms), f'It says "{word}".')


def _unique(rng: Random, scene: Scene, attribute: str) -> Thing | None:
    values = [getattr(thing, attribute) for thing in scene.things]
    single = [thing for thing in scene.things if values.count(getattr(thing, attribute)) == 1]
    return rng.choice(single) if single else None


def _listing(scene: Scene) -> str:
    phrases = [thing.phrase(sized=True) for thing in scene.things]
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _there_are(count: int, singular: str, plural: str) -> str:
    if count == 0:
        return f"There are no {plural}."
    return f"There is one {singular}." if count == 1 else f"There are {number(count)} {plural}."


def _describe(rng: Random, scene: Scene) -> tuple[str, str]:
    return rng.choice(_DESCRIBE), capital(_listing(scene)) + "."


def _count(rng: Random, scene: Scene) -> tuple[str, str]:
    return rng.choice(_COUNT), _there_are(len(scene.things), "shape", "shapes")


def _count_kind(rng: Random, scene: Scene) -> tuple[str, str]:
    some = rng.choice(scene.things)
    if rng.random() < 0.6:
        shape = some.shape if rng.random() < 0.7 else rng.choice(SHAPES)
        found = sum(thing.shape == shape for thing in scene.things)
        return f"How many {PLURAL[shape]} are there?", _there_are(found, shape, PLURAL[shape])
    colour = some.colour if rng.random() < 0.7 else rng.choice(COLOUR_NAMES)
    found = sum(thing.colour == colour for thing in scene.things)
    return f"How many {colour} shapes are there?", _there_are(found, f"{colour} shape", f"{colour} shapes")


def _missing(rng: Random, scene: Scene) -> str | None:
    absent = [shape for shape in SHAPES if all(thing.shape != shape for thing in scene.things)]
    return rng.choice(absent) if absent and rng.random() < 0.12 else None


def _colour(rng: Random, scene: Scene) -> tuple[str, str] | None:
    thing = _unique(rng, scene, "shape")
    absent = _missing(rng, scene)
    if absent:
        return f"What colour is the {absent}?", f"There is no {absent}."
    return thing and (f"What colour is the {thing.shape}?", f"The {thing.shape} is {thing.colour}.")


def _shape(rng: Random, scene: Scene) -> tuple[str, str] | None:
    thing = _unique(rng, scene, "colour")
    form = rng.choice(["What shape is {}?", "Which shape is {}?"])
    return thing and (form.format(thing.colour), f"The {thing.shape} is {thing.colour}.")


def _where(rng: Random, scene: Scene) -> tuple[str, str] | None:
    thing = _unique(rng, scene, "shape")
    absent = _missing(rng, scene)
    if absent:
        return f"Where is the {absent}?", f"There is no {absent}."
    return thing and (f"Where is the {thing.shape}?", f"The {thing.shape} is {thing.where()}.")


def _at(rng: Random, scene: Scene) -> tuple[str, str]:
    thing = rng.choice(scene.things)
    form = rng.choice(["What is {}?", "Which shape is {}?"])
    return form.format(thing.where()), capital(thing.phrase()) + "."


def _exists(rng: Random, scene: Scene) -> tuple[str, str]:
    some, other = rng.choice(scene.things), rng.choice(scene.things)
    kind = rng.random()
    if kind < 0.5:
        colour, shape = some.colour, some.shape
    elif kind < 0.75:
        colour, shape = some.colour, rng.choice(SHAPES)
    else:
        colour, shape = rng.choice(COLOUR_NAMES), other.shape
    name = f"{colour} {shape}"
    found = any(thing.colour == colour and thing.shape == shape for thing in scene.things)
    return f"Is there {article(name)}?", f"Yes, there is {article(name)}." if found else f"No, there is no {name}."


def _size(rng: Random, scene: Scene) -> tuple[str, str] | None:
    thing = _unique(rng, scene, "shape")
    form = rng.choice(["Is the {} small or large?", "How big is the {}?"])
    return thing and (form.format(thing.shape), f"The {thing.shape} is {thing.size}.")


_MAKERS = dict(
    zip(PICTURE_KINDS, [_describe, _count, _count_kind, _colour, _shape, _where, _at, _exists, _size], strict=True)
)


def scene_turn(rng: Random, scene: Scene, kind: str | None = None) -> Turn:
    """A question about the scene, of the given or of a random kind."""
    while True:
        chosen = kind or rng.choices(PICTURE_KINDS, _WEIGHTS)[0]
        made = _MAKERS[chosen](rng, scene)
        if made:
            return Turn(chosen, *made)
        kind = None


def _pick(first: bool, second: bool) -> str:
    if first and second:
        return "Both pictures"
    return "The first picture" if first else "The second picture" if second else "Neither picture"


def compare_turn(rng: Random, first: Scene, second: Scene) -> Turn:
    """A question whose answer needs both pictures."""
    kind = rng.randrange(3)
    if kind == 0:
        a, b = len(first.things), len(second.things)
        answer = (
            "Both pictures have the same number of shapes." if a == b else f"{_pick(a > b, b > a)} has more shapes."
        )
        return Turn("compare", "Which picture has more shapes?", answer)
    some = rng.choice(rng.choice([first, second]).things)
    if kind == 1:
        shape = some.shape if rng.random() < 0.8 else rng.choice(SHAPES)
        has = [any(thing.shape == shape for thing in scene.things) for scene in (first, second)]
        name, ask = article(shape), f"Which picture has {article(shape)}?"
    else:
        colour = some.colour if rng.random() < 0.8 else rng.choice(COLOUR_NAMES)
        has = [any(thing.colour == colour for thing in scene.things) for scene in (first, second)]
        name, ask = article(f"{colour} shape"), f"Which picture has {article(f'{colour} shape')}?"
    who = _pick(*has)
    return Turn("compare", ask, f"{who} {'have' if who.startswith('Both') else 'has'} {name}.")
