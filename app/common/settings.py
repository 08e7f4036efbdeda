"""What the user chose once and for all: ``settings.yaml`` in the configuration folder.

An option on the command line wins over the environment, which wins over the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from app.common.errors import ConfigError
from app.common.paths import config_dir

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_MODEL = "demo"


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices that hold for every command.

    Attributes:
        model: name of a bundled or installed model, or its directory.
        device: "auto", "cpu" or the name of a device as ``hearsee doctor`` lists it.
        gpu_layers: layers of the language model on the device; None lets the runtime decide.
        threads: CPU threads; None is one per physical core.
    """

    model: str = DEFAULT_MODEL
    device: str = "auto"
    gpu_layers: int | None = None
    threads: int | None = None


def settings_path() -> Path:
    """The settings file, whether it exists or not."""
    return config_dir() / "settings.yaml"


def load_settings(path: Path | None = None) -> Settings:
    """Read the file and the variables HEARSEE_MODEL and HEARSEE_DEVICE.

    Raises:
        ConfigError: the file is not readable, not a mapping, or holds an unknown or impossible setting.
    """
    settings = _from_mapping(_read(path or settings_path()), path or settings_path())
    if model := os.environ.get("HEARSEE_MODEL"):
        settings = replace(settings, model=model)
    if device := os.environ.get("HEARSEE_DEVICE"):
        settings = replace(settings, device=device)
    return settings


def _read(path: Path) -> object:
    import yaml  # only where there is a file to read: start-up time

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot read the settings in {path} ({reason}); repair or delete the file") from error


def _from_mapping(values: object, path: Path) -> Settings:
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a list of `name: value` lines; repair or delete the file")
    unknown = sorted(str(key) for key in values if key not in {f.name for f in fields(Settings)})
    if unknown:
        raise ConfigError(f"{path}: unknown setting {', '.join(unknown)}; remove it")
    _check(values, path)
    return Settings(**values)


def _check(values: dict[str, Any], path: Path) -> None:
    for name in ("model", "device"):
        if not isinstance(values.get(name, "text"), str):
            raise ConfigError(f"{path}: {name} must be text")
    for name, lowest in (("gpu_layers", 0), ("threads", 1)):
        value = values.get(name)
        if value is not None and (type(value) is not int or value < lowest):
            raise ConfigError(f"{path}: {name} must be a whole number from {lowest}, or absent")
