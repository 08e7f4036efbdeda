"""Which model a command uses and where it runs: options over environment over settings file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app.common.errors import ConfigError
from app.common.paths import bundled_models_dir, installed_models_dir
from app.common.settings import Settings, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

MANIFEST = "model.yaml"


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings with what was typed on the command line in their place.

    Raises:
        ConfigError: the settings file is unusable.
    """
    given = {name: getattr(arguments, name) for name in Settings.__slots__ if hasattr(arguments, name)}
    return replace(load_settings(), **given)


def model_directories() -> Iterator[Path]:
    """Directories of installed models, then of bundled ones: a name of the user's wins."""
    for folder in (installed_models_dir(), bundled_models_dir()):
        if folder.is_dir():
            yield from sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def find_model(name: str) -> Path:
    """The directory of a model given by its name or by its directory.

    Raises:
        ConfigError: there is neither; says which names there are.
    """
    if (Path(name) / MANIFEST).is_file():
        return Path(name)
    for directory in model_directories():
        if name in (directory.name, _stated_name(directory)):
            return directory
    if Path(name).is_dir():
        raise ConfigError(f"{name} is not a model directory: it has no {MANIFEST}; make one with hearsee convert")
    known = ", ".join(directory.name for directory in model_directories()) or "none"
    raise ConfigError(f"no model '{name}' on this computer; there are: {known}; see hearsee models list")


def _stated_name(directory: Path) -> str:
    """The name in the manifest without reading the rest of it; empty when there is none."""
    try:
        lines = (directory / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    stated = (line.partition(":")[2] for line in lines if line.startswith("name:"))
    return next(stated, "").strip().strip("'\"")
