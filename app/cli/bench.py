"""``hearsee bench``: the figures of the README, measured on this computer."""

from __future__ import annotations

import importlib
import json
from importlib import util
from typing import TYPE_CHECKING

from app.cli.arguments import BENCHES
from app.cli.output import Progress
from app.common.errors import ConfigError

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Run one bench or every one; figures to stdout."""
    figures: dict[str, float] = {}
    for name in [arguments.name] if arguments.name else available():
        figures |= measure(name, full=arguments.full)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<48} {value:.4g}")
    return 0


def available() -> list[str]:
    """The benches of this version."""
    return [name for name in BENCHES if util.find_spec(f"app.bench.{name}") is not None]


def measure(name: str, *, full: bool) -> dict[str, float]:
    """The figures of one bench.

    Raises:
        ConfigError: this version has no such bench.
    """
    if name not in available():
        raise ConfigError(f"this version has no bench {name} yet; there are: {', '.join(available()) or 'none'}")
    progress = Progress()
    try:
        figures: dict[str, float] = importlib.import_module(f"app.bench.{name}").run(full=full, say=progress.show)
    finally:
        progress.clear()
    return figures
