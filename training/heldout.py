"""The held-out set that ships with the app: voices, pictures and wordings that no training stage has seen.

Each case is a conversation with its right answer, in the format that ``hearsee validate run`` reads; its id is the task
it counts for and a number. Clips are Ogg/Opus, pictures PNG; everything is made from one seed.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import yaml

from .augment import augment
from .domain.about import about_turn, outside_turn
from .domain.phrasing import system_message, typed
from .domain.questions import compare_turn, random_word, read_turn, scene_turn
from .domain.requests import arithmetic_turn, command_turn
from .domain.scenes import Scene, random_scene
from .domain.spoken import is_trained, spoken_turn
from .drawing import draw_scene, draw_unknown, draw_word, place_word
from .samples import TRANSCRIBE
from .synthesis import FESTIVAL, espeak, festival, flite

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from .domain.words import Turn

Part = dict[str, str]
_ASKED = ["colour", "shape", "count", "count_kind", "where", "at"]


def write_opus(path: Path, samples: np.ndarray) -> None:
    """A 16 kHz clip as Ogg/Opus, always the same bytes for the same samples."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, samples, 16000, subtype="PCM_16")
        options = ["-c:a", "libopus", "-b:a", "28k", "-application", "voip", "-bitexact", "-map_metadata", "-1"]
        subprocess.run(["ffmpeg", "-y", "-v", "error", "-i", file.name, *options, str(path)], check=True)


@dataclass
class HeldOut:
    """Collects cases; media are written as they come."""

    folder: Path
    rng: Random
    cases: list[dict[str, object]] = field(default_factory=list)
    waiting: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, task: str, messages: list[dict[str, object]], answer: str) -> None:
        """One case."""
        number = sum(str(case["id"]).rpartition("-")[0] == task for case in self.cases)
        self.cases.append({"id": f"{task}-{number:02d}", "messages": messages, "answer": answer})

    def user(self, *parts: Part, system: bool = True) -> list[dict[str, object]]:
        """A conversation of one user message, now and then after a system message."""
        message: list[dict[str, object]] = [{"role": "user", "parts": [part for part in parts if part != {"text": ""}]}]
        text = system_message(self.rng) if system else None
        return [{"role": "system", "parts": [{"text": text}]}, *message] if text else message

    def picture(self, image: Image.Image) -> Part:
        """A picture as a part."""
        name = f"{sum(1 for _ in self.folder.glob('*.png')):03d}.png"
        image.quantize(64).save(self.folder / name, optimize=True)
        return {"image": name}

    def clip(self, text: str, other: bool) -> Part:
        """A recording of the text by a held-out voice, or (later, all at once) by the engine left out."""
        name = f"{sum(1 for _ in self.folder.glob('*.ogg')) + len(self.waiting):03d}.ogg"
        if other:
            self.waiting.append((name, self.rng.choice(FESTIVAL), text))
        else:
            engine = flite if self.rng.random() < 0.3 else espeak
            self._record(name, engine(self.rng, text, held=True)[1])
        return {"audio": name}

    def _record(self, name: str, samples: np.ndarray) -> None:
        noise = np.random.default_rng(self.rng.randrange(1 << 30))
        write_opus(self.folder / name, augment(samples, noise, strength=0.4))

    def finish(self) -> None:
        """Record what waits for Festival and write the list of cases."""
        for voice in FESTIVAL:
            jobs = [(name, text) for name, chosen, text in self.waiting if chosen == voice]
            for (name, _), samples in zip(jobs, festival([text for _, text in jobs], voice), strict=True):
                self._record(name, samples)
        text = yaml.safe_dump({"cases": self.cases}, sort_keys=False, allow_unicode=True, width=110)
        (self.folder / "suite.yaml").write_text(text)


def _spoken(held: HeldOut, count: int, other: bool) -> None:
    rng, suffix = held.rng, "_other_engine" if other else ""
    for _ in range(count):
        turn = _in_domain(rng)
        parts = [held.clip(turn.question, other), {"text": TRANSCRIBE}]
        held.add("transcribe" + suffix, held.user(*parts), turn.question)
    for task, maker in (("spoken_arithmetic", arithmetic_turn), ("spoken_command", command_turn)):
        for _ in range(count * 2 // 3):
            turn = _trained(rng, maker, True)
            held.add(task + suffix, held.user(held.clip(turn.question, other)), turn.answer)
    for index in range(count):
        scene = random_scene(rng)
        turn = scene_turn(rng, scene, _ASKED[index % len(_ASKED)])
        parts = [held.picture(draw_scene(rng, scene)), held.clip(turn.question, other)]
        held.add("spoken_picture" + suffix, held.user(*parts), turn.answer)


def _trained(rng: Random, maker: object, trained: bool) -> Turn:
    while True:
        turn: Turn = maker(rng)  # type: ignore[operator]
        if is_trained(turn) == trained:
            return turn


def _in_domain(rng: Random) -> Turn:
    while True:
        turn = spoken_turn(rng)
        if turn.task != "refuse":
            return turn


def _unseen_sentences(held: HeldOut, count: int) -> None:
    for _ in range(count):
        turn = _trained(held.rng, held.rng.choice([arithmetic_turn, command_turn]), False)
        held.add("spoken_unseen_sentence", held.user(held.clip(turn.question, False)), turn.answer)
        turn = _trained(held.rng, held.rng.choice([arithmetic_turn, command_turn]), False)
        held.add("typed_unseen_sentence", held.user({"text": typed(held.rng, turn.question)}), turn.answer)


def _scene_part(held: HeldOut, scene: Scene) -> Part:
    return held.picture(draw_scene(held.rng, scene))


def _typed_pictures(held: HeldOut, count: int) -> None:
    rng = held.rng
    for index in range(count):
        for task, pairs in (("typed_picture", False), ("typed_picture_unseen_pair", True)):
            scene = random_scene(rng, pairs)
            turn = scene_turn(rng, scene, [*_ASKED, "exists", "size"][index % 8])
            question = typed(rng, turn.question, held=index % 4 == 0)
            parts = [_scene_part(held, scene), {"text": question}]
            held.add(task, held.user(*(parts if index % 5 else parts[::-1])), turn.answer)
    for _ in range(count // 2):
        scene = random_scene(rng)
        turn = scene_turn(rng, scene, "describe")
        held.add("describe", held.user(_scene_part(held, scene), {"text": turn.question}), turn.answer)
        scenes = random_scene(rng), random_scene(rng)
        turn = compare_turn(rng, *scenes)
        parts = [_scene_part(held, scene) for scene in scenes]
        held.add("compare", held.user(*parts, {"text": typed(rng, turn.question)}), turn.answer)
        word = place_word(rng, random_word(rng), held=True)
        turn = read_turn(rng, word.text)
        held.add("read", held.user(held.picture(draw_word(rng, word)), {"text": turn.question}), turn.answer)


def _follow_ups(held: HeldOut, count: int) -> None:
    rng = held.rng
    for index in range(count):
        scene = random_scene(rng, count=2 + index % 2)
        first, second = scene_turn(rng, scene), scene_turn(rng, scene)
        if index % 4 == 3:
            second = about_turn(rng, held=True)
        messages = held.user(_scene_part(held, scene), {"text": first.question})
        messages.append({"role": "assistant", "parts": [{"text": first.answer}]})
        messages.append({"role": "user", "parts": [{"text": second.question}]})
        held.add("follow_up", messages, second.answer)


def _talk(held: HeldOut, count: int) -> None:
    rng = held.rng
    for index in range(count):
        turn = about_turn(rng, held=index % 2 == 0)
        held.add("about", held.user({"text": typed(rng, turn.question, held=index % 2 == 1)}), turn.answer)
        turn = outside_turn(rng, held=index % 2 == 0)
        held.add("refuse", held.user({"text": typed(rng, turn.question)}), turn.answer)
        turn = outside_turn(rng)
        held.add("spoken_refuse", held.user(held.clip(turn.question, False)), turn.answer)
    for _ in range(count // 2):
        image = held.picture(draw_unknown(rng))
        question = {"text": scene_turn(rng, random_scene(rng)).question}
        held.add("refuse_picture", held.user(image, question), outside_turn(rng).answer)


def make_held_out(folder: Path, seed: int = 2026) -> None:
    """Write the whole set into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    held = HeldOut(folder, Random(seed))
    _spoken(held, 36, other=False)
    _spoken(held, 36, other=True)
    _unseen_sentences(held, 24)
    _typed_pictures(held, 48)
    _follow_ups(held, 24)
    _talk(held, 24)
    held.finish()
