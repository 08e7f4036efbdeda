"""How often the bundled demo model is right: the held-out set through the app's own runtime.

The set (``resources/demo/heldout``, a validation suite) holds voices, pictures and wordings that no training stage
saw. ``acc_<task>_q8`` is measured here, on the shipped 8-bit model, by real greedy generation; an answer counts when
all of it is right. ``acc_<task>`` is the float32 checkpoint's, from the answers that full-precision PyTorch gave when
the model was made (``float32.json`` beside the suite). ``<mode>_top1_agreement`` says how often both prefer the same
next token.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from app.common.errors import ConfigError
from app.common.paths import bundled_models_dir, resources_dir
from app.runtime.audio.decode import load_audio
from app.runtime.events import GenerateOptions, TokenText
from app.runtime.messages import Message, Text
from app.runtime.model import Model
from app.runtime.vision.decode import load_image
from app.validation.suite import Case, load_suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from app.runtime.messages import Part
    from app.runtime.session import Session
    from app.validation.suite import CasePart

MAX_TOKENS = 60


def heldout_dir() -> Path:
    """The held-out set."""
    return resources_dir() / "demo" / "heldout"


def run(*, full: bool, say: Callable[[str], None]) -> dict[str, float]:
    """The figures; ``full`` changes nothing, the whole set is always used.

    Raises:
        ConfigError: the held-out set or the demo model is missing.
    """
    del full
    folder, directory = heldout_dir(), bundled_models_dir() / "demo"
    for path in (folder, directory):
        if not path.is_dir():
            raise ConfigError(f"cannot find {path}; install Hearsee again")
    cases, recorded = load_suite(folder), read_recorded(folder)
    answers, agreement = {}, {}
    with Model.open(directory) as model, model.session() as session:
        for index, case in enumerate(cases):
            say(f"case {index + 1} of {len(cases)}: {case.id}")
            messages = case_messages(case, folder)
            answers[case.id] = generated(session, messages)
            if case.id in recorded:
                agreement[case.id] = agreeing(session, messages, recorded[case.id])
    return figures(cases, answers, {name: entry["answer"] for name, entry in recorded.items()}, agreement)


def read_recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """What the float32 checkpoint answered: per case ``answer``, and ``answer_ids`` with ``top1`` after each of them.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / "float32.json"
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read {path}; install Hearsee again") from error
    return entries


def case_messages(case: Case, folder: Path) -> list[Message]:
    """The conversation of a case with its media decoded."""
    return [Message(entry.role, tuple(_part(part, folder) for part in entry.parts)) for entry in case.messages]


def _part(part: CasePart, folder: Path) -> Part:
    if part.kind == "image":
        return load_image(folder / part.value)
    return load_audio(folder / part.value) if part.kind == "audio" else Text(part.value)


def generated(session: Session, messages: list[Message]) -> str:
    """The greedy answer."""
    events = session.generate(messages, GenerateOptions(max_tokens=MAX_TOKENS))
    return "".join(event.text for event in events if isinstance(event, TokenText)).strip()


def agreeing(session: Session, messages: list[Message], entry: dict[str, Any]) -> tuple[int, int]:
    """(places where the most likely token is the recorded one, places) along the recorded right answer."""
    _, logits = session.logits(messages, entry["answer_ids"])
    return int((logits.argmax(-1) == np.asarray(entry["top1"])).sum()), len(entry["top1"])


def figures(
    cases: list[Case], answers: dict[str, str], recorded: dict[str, str], agreement: dict[str, tuple[int, int]]
) -> dict[str, float]:
    """Accuracy per task, for float32 and q8_0, and the agreement per mode."""
    found: dict[str, float] = {}
    for task in dict.fromkeys(task_of(case) for case in cases):
        of_task = [case for case in cases if task_of(case) == task]
        known = [case for case in of_task if case.id in recorded]
        if known:
            found[f"acc_{task}"] = _share(recorded[case.id] == case.answer for case in known)
        found[f"acc_{task}_q8"] = _share(answers[case.id] == case.answer for case in of_task)
    for mode in dict.fromkeys(case.mode for case in cases if case.id in agreement):
        counts = [agreement[case.id] for case in cases if case.id in agreement and case.mode == mode]
        found[f"{mode}_top1_agreement"] = sum(same for same, _ in counts) / sum(total for _, total in counts)
    return found


def task_of(case: Case) -> str:
    """The task a case counts for: its id without the number."""
    return case.id.rpartition("-")[0]


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found)
