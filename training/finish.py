"""From checkpoints to a Hugging Face folder, and its figures on the held-out set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .evaluate import Answerer, evaluate, record
from .export import export
from .stages.media import MediaModel

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Phi4MultimodalForCausalLM


def assemble(folder: Path) -> MediaModel:
    """The model as the last stage left it."""
    media = MediaModel(folder)
    media.load_joint()
    return media


def _answerer(folder: Path, heldout: Path) -> Answerer:
    media = assemble(folder)
    model: Phi4MultimodalForCausalLM = media.model
    return Answerer(model, media.codec, heldout)


def write_checkpoint(folder: Path, out: Path) -> None:
    """Export what the stages have reached so far."""
    media = assemble(folder)
    export(media.model, media.codec, out)


def report(folder: Path, heldout: Path, every: int = 1) -> str:
    """Accuracy per task on (every n-th case of) the held-out set, and what went wrong."""
    figures, wrong = evaluate(_answerer(folder, heldout), every)
    lines = [f"{task:<32} {share:6.1%}  n={count}" for task, (share, count) in figures.items()]
    return "\n".join([*lines, "", *wrong])


def write_record(folder: Path, heldout: Path) -> None:
    """What the full-precision model answers, beside the held-out set."""
    record(_answerer(folder, heldout), heldout / "float32.json")
