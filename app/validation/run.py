"""``hearsee validate run``: a model's outputs for the cases of a suite, to one npz.

All cases run in file order through one session, so that mode changes, rope regimes and shared prefixes are exercised
as the app exercises them. Without ``fast`` the most exact setting is used: F32 KV cache, no flash attention.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import HearseeError, ValidationError
from app.runtime.audio.decode import load_audio
from app.runtime.events import SessionOptions
from app.runtime.messages import Audio, Image, Message, Text
from app.runtime.model import Model
from app.runtime.vision.decode import load_image
from app.validation.recording import RecordingWriter
from app.validation.suite import load_suite

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.runtime.messages import Part
    from app.runtime.session import Session
    from app.validation.suite import Case, CasePart

logger = logging.getLogger("app.validation")


def run_suite(
    directory: Path,
    suite: Path,
    out: Path,
    *,
    device: str = "auto",
    fast: bool = False,
    gpu_layers: int | None = None,
    n_threads: int | None = None,
    options: SessionOptions | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Run every case of ``suite`` through the model in ``directory`` and write ``out``; returns their number.

    Args:
        directory: a model directory.
        suite: a directory with ``suite.yaml`` and its media.
        out: the npz to write: per case ``tokens`` (int32), ``logits`` and, where there are such media,
            ``image_embeddings`` and ``audio_embeddings`` (float32).
        device: where to compute.
        fast: the app's own setting instead of the most exact one.
        gpu_layers: layers of the language model on a GPU; None means all.
        n_threads: CPU threads; None leaves it to the runtime.
        options: of the session, to show that they change nothing.
        say: told what is being done.

    Raises:
        ValidationError: the suite, a case or ``out`` is unusable; names the case.
        HearseeError: the model cannot be opened.
    """
    cases = load_suite(suite)
    with (
        Model.open(directory, device, gpu_layers, n_threads, exact=not fast) as model,
        model.session(options or SessionOptions()) as session,
        RecordingWriter(out) as writer,
    ):
        for number, case in enumerate(cases, 1):
            say(f"case {number} of {len(cases)}: {case.id}")
            writer.add(case.id, _run_case(model, session, case, suite))
    return len(cases)


def _run_case(model: Model, session: Session, case: Case, suite: Path) -> dict[str, np.ndarray]:
    try:
        messages = [_message(message.role, message.parts) for message in case.messages]
        tokens, logits = session.logits(messages, model.tokenizer.encode(case.answer))
        media = {"image_embeddings": Image, "audio_embeddings": Audio}
        rows = {name: session.media_rows(messages, kind) for name, kind in media.items() if _has(messages, kind)}
    except HearseeError as error:
        raise ValidationError(f"{suite}: case '{case.id}': {error}") from error
    return {"tokens": tokens.astype(np.int32), **rows, "logits": logits.astype(np.float32)}


def _has(messages: list[Message], kind: type[Image] | type[Audio]) -> bool:
    return any(isinstance(part, kind) for message in messages for part in message.parts)


def _message(role: str, parts: tuple[CasePart, ...]) -> Message:
    return Message(role, tuple(_part(part) for part in parts))  # type: ignore[arg-type]


def _part(part: CasePart) -> Part:
    if part.kind == "text":
        return Text(part.value)
    return load_image(Path(part.value)) if part.kind == "image" else load_audio(Path(part.value))
