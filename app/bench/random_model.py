"""Models with random weights for the benches: speed does not depend on what the numbers are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from app.common.paths import cache_dir
from app.convert.pipeline import convert
from app.convert.synthetic import published, write_checkpoint
from app.runtime.formats.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.convert.config import CheckpointConfig

_VERSION = 1  # a change of the sizes below makes new models


def random_model(*, full: bool, say: Callable[[str], None], type_name: str = "q8_0") -> Path:
    """Folder of a random model, made on first use under the cache folder.

    Args:
        full: the published model's sizes (a minute per gigabyte, 15 GB of disk while it is made);
            else its vocabulary, crop size and lengths with a small network in between.
        say: takes progress lines.
        type_name: as for ``hearsee convert --type``.

    Raises:
        HearseeError: the disk is full or the folder cannot be written.
    """
    name = f"bench-{'full' if full else 'middle'}-{type_name}-v{_VERSION}"
    folder = cache_dir() / name
    if not (folder / MANIFEST_FILE).is_file():
        say(f"making the random model {name} (once)")
        checkpoint = folder.with_name(f"{name}-checkpoint")
        shutil.rmtree(checkpoint, ignore_errors=True)
        try:
            write_checkpoint(checkpoint, published() if full else middle())
            convert(checkpoint, folder, type_name, force=True)
        finally:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return folder


def middle() -> CheckpointConfig:
    """The published vocabulary, tiling and context lengths around a network of 0.2 billion values."""
    config = published()
    language = replace(
        config.language, embedding_length=768, feed_forward_length=2048, block_count=8, head_count=6, head_count_kv=2
    )
    vision = replace(
        config.vision, embedding_length=64, feed_forward_length=128, layer_count=3, block_count=2, head_count=2
    )
    audio = replace(
        config.audio, embedding_length=64, feed_forward_length=96, block_count=2, head_count=2, conv_channels=64
    )
    adapters = {
        "vision": replace(config.adapters["vision"], rank=64, alpha=128.0),
        "speech": replace(config.adapters["speech"], rank=96, alpha=192.0),
    }
    return replace(config, language=language, vision=vision, audio=audio, adapters=adapters)  # type: ignore[arg-type]
