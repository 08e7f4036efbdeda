"""Random checkpoints of other sizes than the tiny one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.convert.synthetic import tiny

if TYPE_CHECKING:
    from app.convert.config import CheckpointConfig


def wider() -> CheckpointConfig:
    """Like the tiny one, but every width differs: nothing of it fits there."""
    config = tiny()
    return replace(
        config,
        language=replace(config.language, embedding_length=128, head_count=8),
        vision=replace(config.vision, embedding_length=96),
        audio=replace(config.audio, embedding_length=96),
    )
