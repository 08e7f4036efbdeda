"""The demo model's world: answers are right by an independent count, and what is held out stays out."""

import itertools
from random import Random

import pytest

from training.domain import about, questions, requests, scenes, spoken, words

SEEDS = range(40)


def drawn(seed, held=False, n=30):
    rng = Random(seed)
    return rng, [scenes.random_scene(rng, held) for _ in range(n)]


@pytest.mark.parametrize("seed", SEEDS)
def test_training_scenes_never_show_a_held_pair_and_held_ones_always_do(seed):
    for held in (False, True):
        for scene in drawn(seed, held)[1]:
            pairs = {(thing.colour, thing.shape) for thing in scene.things}
            assert bool(pairs & words.HELD_PAIRS) == held


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_are_right(seed):
    rng, found = drawn(seed)
    for scene in found:
        turn = questions.scene_turn(rng, scene, "count_kind")
        kind = turn.question.removeprefix("How many ").removesuffix(" are there?")
        matching = [thing for thing in scene.things if kind in (words.PLURAL[thing.shape], f"{thing.colour} shapes")]
        amount = "no" if not matching else words.number(len(matching))
        assert f" {amount} " in turn.answer


@pytest.mark.parametrize("seed", SEEDS)
def test_places_are_where_the_pixels_are(seed):
    for scene in drawn(seed)[1]:
        for thing in scene.things:
            x, y = thing.x / scene.width, thing.y / scene.height
            assert ("left" in thing.place) == (x < 0.37)
            assert ("right" in thing.place) == (x > 0.63)
            assert ("top" in thing.place) == (y < 0.37)
            assert ("bottom" in thing.place) == (y > 0.63)


@pytest.mark.parametrize("seed", SEEDS)
def test_comparisons_are_right(seed):
    rng, found = drawn(seed)
    for first, second in itertools.pairwise(found):
        turn = questions.compare_turn(rng, first, second)
        if "more" in turn.question:
            n = len(first.things) - len(second.things)
            wanted = "Both" if n == 0 else "The first" if n > 0 else "The second"
        else:
            name = turn.question.split()[-1].rstrip("?") if "shape?" not in turn.question else turn.question.split()[-2]
            has = [any(name in (t.shape, t.colour) for t in scene.things) for scene in (first, second)]
            wanted = {(1, 1): "Both", (1, 0): "The first", (0, 1): "The second", (0, 0): "Neither"}[
                tuple(map(int, has))
            ]
        assert turn.answer.startswith(wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_are_right(seed):
    values = {words.number(n): n for n in range(101)}
    rng = Random(seed)
    for _ in range(30):
        left, right = requests.arithmetic_turn(rng).answer.lower().rstrip(".").split(" is ")
        sign = next(word for word in (" plus ", " minus ", " times ") if word in left)
        a, b = (values[part] for part in left.split(sign))
        assert values[right] == {" plus ": a + b, " minus ": a - b, " times ": a * b}[sign]


def test_held_paraphrases_and_sentences_are_never_trained_on():
    rng = Random(1)
    assert not about.ABOUT_HELD & {about.about_turn(rng).question for _ in range(3000)}
    assert {about.about_turn(rng, held=True).question for _ in range(3000)} == about.ABOUT_HELD
    turns = [requests.command_turn(rng) for _ in range(3000)]
    share = sum(not spoken.is_trained(turn) for turn in turns) / len(turns)
    assert 0.03 < share < 0.25
