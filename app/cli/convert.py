"""``hearsee convert``: a Hugging Face checkpoint folder to a model directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.assistant.policy import DEFAULT_SYSTEM_MESSAGE
from app.cli.output import Progress, note
from app.convert.pipeline import ModelCard, convert

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Convert, with progress on stderr."""
    line = Progress()

    def progress(stage: str, done: int, total: int) -> None:
        line.show(f"{stage}: {100 * done // total} %" if total else stage)

    card = ModelCard(
        name=arguments.name,
        source=arguments.origin,
        revision=arguments.revision,
        licence=arguments.licence,
        system_message=DEFAULT_SYSTEM_MESSAGE if arguments.system is None else arguments.system,
    )
    try:
        convert(arguments.source, arguments.out, arguments.type, progress, card=card, force=arguments.force)
    finally:
        line.clear()
    note(f"wrote {arguments.out}; try: hearsee ask --model {arguments.out} 'Who are you?'")
    return 0
