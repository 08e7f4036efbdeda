"""``models/catalog.yaml``: the models Hearsee knows of, those that come with it and those to be made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from app.common.errors import ModelFormatError
from app.runtime.formats.manifest import MODES, Manifest, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

CATALOG_FILE = "catalog.yaml"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One known model.

    Attributes:
        name: as ``--model`` takes it.
        about: one sentence.
        source: where it, or the checkpoint it is made from, comes from.
        licence: SPDX name.
        capabilities: modes.
        n_bytes: size on disk by type of conversion; of a bundled model only its own.
        manifest: of a bundled model, with every file's bytes and sha256; None for one to be made.
    """

    name: str
    about: str
    source: str
    licence: str
    capabilities: tuple[str, ...]
    n_bytes: dict[str, int]
    manifest: Manifest | None


def read_catalog(models_directory: Path) -> tuple[CatalogEntry, ...]:
    """Read the catalogue and the manifests of the bundled models it points to.

    Raises:
        ModelFormatError: the catalogue or a manifest is missing or malformed.
    """
    path = models_directory / CATALOG_FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} cannot be read: {' '.join(str(error).split())}; reinstall Hearsee") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT or not isinstance(values.get("models"), list):
        raise ModelFormatError(f"{path} is not a catalogue of format {FORMAT}; reinstall Hearsee")
    entries = (_entry(value, path) for value in values["models"])
    return tuple(entry for entry in entries if entry is not None)


def _entry(value: Any, path: Path) -> CatalogEntry | None:  # noqa: ANN401 - parsed YAML
    """The model of one entry; None for a bundled one that this installation was made without."""
    try:
        if "bundled" not in value:
            return _to_be_made(value)
        if not re.fullmatch(r"[A-Za-z0-9._-]*[A-Za-z0-9]", value["bundled"]):
            raise ValueError(value["bundled"])
        directory = path.parent / value["bundled"]
        return _bundled(value, directory) if directory.is_dir() else None
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ModelFormatError(f"{path}: a model's entry is malformed: {error!r}; reinstall Hearsee") from error


def _bundled(value: dict[str, Any], directory: Path) -> CatalogEntry:
    """What a bundled model's own manifest says is not said twice."""
    manifest = read_manifest(directory)
    return CatalogEntry(
        name=directory.name,
        about=str(value["about"]),
        source=manifest.source,
        licence=manifest.licence,
        capabilities=manifest.modes,
        n_bytes={manifest.quantization: directory_bytes(manifest)},
        manifest=manifest,
    )


def _to_be_made(value: dict[str, Any]) -> CatalogEntry:
    capabilities = tuple(value["capabilities"])
    if not set(capabilities) <= set(MODES):
        raise ValueError(f"capabilities {capabilities}")
    return CatalogEntry(
        name=str(value["name"]),
        about=str(value["about"]),
        source=str(value["source"]),
        licence=str(value["licence"]),
        capabilities=capabilities,
        n_bytes={str(kind): int(n_bytes) for kind, n_bytes in value["bytes"].items()},
        manifest=None,
    )


def directory_bytes(manifest: Manifest) -> int:
    """Size of all files of a model, without the manifest itself."""
    return sum(entry.bytes for entry in manifest.files.values())
