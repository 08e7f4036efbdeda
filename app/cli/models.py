"""``hearsee models``: list, install, verify and remove the models on this computer."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.output import Progress, note
from app.cli.placement import find_model, model_directories
from app.common.errors import ConfigError, HearseeError, ModelFormatError
from app.common.paths import bundled_models_dir, installed_models_dir
from app.runtime.formats.catalog import read_catalog
from app.runtime.formats.checksum import verify
from app.runtime.formats.manifest import MANIFEST_FILE, read_manifest

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from app.runtime.formats.manifest import Manifest

MIB = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FULL_MODEL = "https://huggingface.co/microsoft/Phi-4-multimodal-instruct"


def run(arguments: argparse.Namespace) -> int:
    """Do one of the four actions."""
    return {"list": _list, "install": _install, "verify": _verify, "remove": _remove}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    rows = list(_rows())
    if arguments.json:
        print(json.dumps(rows))
        return 0
    for row in rows:
        modes = ",".join(row["modes"]) if isinstance(row["modes"], list) else ""
        print(f"{row['name']:<24} {row['where']:<10} {row['mib']:>8.1f} MiB  {row['quantization']:<8} {modes}")
    for entry in read_catalog(bundled_models_dir()):
        if entry.manifest is None and entry.name not in {row["name"] for row in rows}:
            note(f"not on this computer: {entry.name}; get {entry.source}, then hearsee convert and models install")
    return 0


def _rows() -> Iterator[dict[str, object]]:
    for directory in model_directories():
        where = "installed" if directory.parent == installed_models_dir() else "bundled"
        try:
            manifest = read_manifest(directory)
        except ModelFormatError as error:
            note(f"hearsee: {error}")
            continue
        yield {
            "name": directory.name,
            "model": manifest.name,
            "where": where,
            "directory": str(directory),
            "mib": total_bytes(manifest) / MIB,
            "quantization": manifest.quantization,
            "modes": list(manifest.modes),
            "licence": manifest.licence,
        }


def total_bytes(manifest: Manifest) -> int:
    """Size of all files of a model."""
    return sum(entry.bytes for entry in manifest.files.values())


def verify_model(directory: Path, progress: Progress | None = None) -> Manifest:
    """Read every file of a model and compare it with its checksum.

    Raises:
        ModelFormatError: names the first file that is missing or damaged.
    """
    manifest = read_manifest(directory)
    done, total = 0, total_bytes(manifest)

    def advance(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if progress:
            progress.show(f"checking {directory.name}: {100 * done // total} %")

    for entry in manifest.files.values():
        verify(directory / entry.path, entry.sha256, advance)
    return manifest


def _verify(arguments: argparse.Namespace) -> int:
    directories = [find_model(name) for name in arguments.models] or list(model_directories())
    n_damaged = 0
    for directory in directories:
        progress = Progress()
        try:
            verify_model(directory, progress)
        except ModelFormatError as error:
            n_damaged += 1
            progress.clear()
            note(f"hearsee: {error}")
        else:
            progress.clear()
            print(f"{directory.name}: every file is as its checksum says")
    return 1 if n_damaged else 0


def _install(arguments: argparse.Namespace) -> int:
    source = Path(arguments.source)
    if not source.is_dir():
        raise ConfigError(_how_to_install(arguments.source))
    progress = Progress()
    try:
        manifest = verify_model(source, progress)
        target = installed_models_dir() / _folder_name(source, manifest)
        if target.exists():
            raise ConfigError(f"{target} is installed already; first: hearsee models remove {target.name}")
        _check_space(manifest)
        progress.show(f"copying {source.name}")
        _copy(source, target, manifest)
    finally:
        progress.clear()
    note(f"installed {target.name}; try: hearsee ask --model {target.name} 'Who are you?'")
    return 0


def _how_to_install(name: str) -> str:
    return (
        f"'{name}' is not a folder, and this version does not download; get a checkpoint, for example from "
        f"{FULL_MODEL}, then: hearsee convert CHECKPOINT OUT && hearsee models install OUT"
    )


def _folder_name(source: Path, manifest: Manifest) -> str:
    name = source.resolve().name
    return name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9._-]+", "-", manifest.name).strip("-.") or "model"


def _check_space(manifest: Manifest) -> None:
    folder = installed_models_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ConfigError(f"cannot use {folder}: {error.strerror}; see XDG_DATA_HOME") from error
    if free < total_bytes(manifest):
        needed = total_bytes(manifest) / MIB
        raise ConfigError(f"{folder} has {free / MIB:.0f} MiB free, the model needs {needed:.0f}; make room first")


def _copy(source: Path, target: Path, manifest: Manifest) -> None:
    """Copy beside the target, then rename: a model is there completely or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.mkdir()
        for name in [*(entry.path for entry in manifest.files.values()), MANIFEST_FILE]:
            shutil.copyfile(source / name, partial / name)
        partial.rename(target)
    except OSError as error:
        raise ConfigError(f"cannot copy {source} to {target}: {error.strerror}; nothing was installed") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove(arguments: argparse.Namespace) -> int:
    target = installed_models_dir() / arguments.name
    if not _NAME.fullmatch(arguments.name) or not (target / MANIFEST_FILE).is_file():
        bundled = any(directory.name == arguments.name for directory in model_directories())
        why = "comes with Hearsee and stays" if bundled else "is not installed; see hearsee models list"
        raise ConfigError(f"'{arguments.name}' {why}")
    try:
        shutil.rmtree(target)
    except OSError as error:
        raise HearseeError(f"cannot remove {target}: {error.strerror}") from error
    note(f"removed {arguments.name}")
    return 0
