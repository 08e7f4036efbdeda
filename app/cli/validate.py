"""``hearsee validate``: record, run, compare, report."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.arguments import UsageError
from app.cli.output import Progress, note
from app.common.errors import ConfigError
from app.common.paths import resources_dir

if TYPE_CHECKING:
    import argparse

RECORDING = "recording.npz"


def run(arguments: argparse.Namespace) -> int:
    """Do one of the four actions."""
    return {"record": _record, "run": _run, "compare": _compare, "report": _report}[arguments.action](arguments)


def _record(arguments: argparse.Namespace) -> int:
    from app.validation.record import record

    n_cases = record(arguments.checkpoint, arguments.suite, arguments.out)
    note(f"wrote {arguments.out}: {n_cases} cases, full precision")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from app.cli.placement import find_model, settings_of
    from app.validation.run import run_suite

    settings = settings_of(arguments)
    progress = Progress()
    try:
        n_cases = run_suite(
            find_model(settings.model),
            arguments.suite,
            arguments.out,
            fast=arguments.fast,
            say=progress.show,
            device=settings.device,
            gpu_layers=settings.gpu_layers,
            n_threads=settings.threads,
        )
    finally:
        progress.clear()
    note(f"wrote {arguments.out}: {n_cases} cases")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    figures = _figures(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        sys.stdout.writelines(f"{name:<40} {value:.6g}\n" for name, value in figures.items())
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from app.validation.report import markdown

    figures = _figures(arguments)
    print(json.dumps(figures) if arguments.json else markdown(figures), end="\n" if arguments.json else "")
    return 0


def _figures(arguments: argparse.Namespace) -> dict[str, float]:
    from app.validation.compare import compare_files

    if arguments.run is None:
        return _figures_of_bundled_model()
    if arguments.reference is None:
        raise UsageError("compare needs two recordings, the run and its reference, or none at all")
    return compare_files(arguments.run, arguments.reference)


def shipped_reference() -> Path:
    """Folder of the suite, its media and the full-precision recording of the bundled model."""
    return resources_dir() / "demo" / "reference"


def _figures_of_bundled_model() -> dict[str, float]:
    from app.cli.placement import find_model
    from app.common.settings import DEFAULT_MODEL
    from app.validation.compare import compare_files
    from app.validation.run import run_suite

    directory, reference = find_model(DEFAULT_MODEL), shipped_reference()
    if not (reference / RECORDING).is_file():
        raise ConfigError(f"there is no recording in {reference}; give two: hearsee validate compare RUN REFERENCE")
    with tempfile.TemporaryDirectory(prefix="hearsee-") as folder:
        out = Path(folder) / RECORDING
        run_suite(directory, reference, out, device="auto", fast=True, say=lambda _: None)
        return compare_files(out, reference / RECORDING)
