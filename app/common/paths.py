"""Where things live on this computer; nothing here touches the disk.

Linux follows the XDG base directory specification, macOS and Windows their own customs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_APP = "hearsee"
_MACOS = {"DATA": "Application Support", "CONFIG": "Application Support", "CACHE": "Caches", "STATE": "Logs"}
_XDG = {"DATA": ".local/share", "CONFIG": ".config", "CACHE": ".cache", "STATE": ".local/state"}


def _user_dir(kind: str) -> Path:
    """One of the four user directories; an empty or relative XDG value is ignored, as the specification says."""
    given = os.environ.get(f"XDG_{kind}_HOME", "")
    if os.path.isabs(given):
        return Path(given) / _APP
    if sys.platform == "darwin":
        return Path.home() / "Library" / _MACOS[kind] / "Hearsee"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "Hearsee" / kind.lower()
    return Path.home() / _XDG[kind] / _APP


def data_dir() -> Path:
    """What the user would miss: installed models."""
    return _user_dir("DATA")


def config_dir() -> Path:
    """The settings file."""
    return _user_dir("CONFIG")


def cache_dir() -> Path:
    """What can be made again: compiled wheels, random models for benchmarks."""
    return _user_dir("CACHE")


def state_dir() -> Path:
    """Logs and the history of typed lines."""
    return _user_dir("STATE")


def root_dir() -> Path:
    """The folder that holds app/, models/ and resources/."""
    return Path(__file__).resolve().parents[2]


def bundled_models_dir() -> Path:
    """Models that come with Hearsee."""
    return root_dir() / "models"


def installed_models_dir() -> Path:
    """Models the user installed."""
    return data_dir() / "models"


def resources_dir() -> Path:
    """Samples, icons and texts."""
    return root_dir() / "resources"
