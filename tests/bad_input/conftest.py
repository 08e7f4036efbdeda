"""The command as its users start it, with a tiny random model: what it says is nonsense, how it behaves is not."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.cli.main import main
from app.convert.pipeline import convert
from app.convert.synthetic import write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120


@dataclass(frozen=True)
class Outcome:
    """What a run of the command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def answered(self) -> bool:
        """Exit 0, with nothing on stderr but notes."""
        return self.status == 0 and "Traceback" not in self.stderr

    def refused(self, *words: str) -> bool:
        """Exit 1, nothing on stdout, and one line on stderr that holds ``words``."""
        lines = self.stderr.splitlines()
        return (
            self.status == 1
            and self.stdout == ""
            and len(lines) == 1
            and lines[0].startswith("hearsee: ")
            and "unexpected" not in lines[0]
            and all(word in lines[0] for word in words)
        )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def pristine_model(checkpoint, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "tiny"
    convert(checkpoint, directory, "q8_0")
    return directory


@pytest.fixture
def model(pristine_model, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine_model, tmp_path / "model"))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[None]:
    """Settings, log and cache of a user who never ran Hearsee; the logging it set up is undone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    yield
    logger = logging.getLogger("app")
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def hearsee(home, capfd, monkeypatch) -> Callable[..., Outcome]:
    """Runs the command in this process, which a crash would take down with it.

    Output is read from the file descriptors, so that a library's own messages count too.
    """

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        capfd.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            status = main([os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return Outcome(status, *capfd.readouterr())

    return run


@pytest.fixture
def hearsee_process(home) -> Callable[..., Outcome]:
    """Runs the command as a process of its own, as users do."""

    def run(*arguments: object, **options: object) -> Outcome:
        command = [sys.executable, "-m", "app", *(a if isinstance(a, bytes) else str(a) for a in arguments)]
        options = {"input": b"", "capture_output": True} | options
        done = subprocess.run(command, cwd=ROOT, timeout=TIMEOUT_S, check=False, **options)
        return Outcome(done.returncode, *((s or b"").decode("utf-8", "replace") for s in (done.stdout, done.stderr)))

    return run


@pytest.fixture
def ask(hearsee, pristine_model) -> Callable[..., Outcome]:
    """``hearsee ask`` with the undamaged model unless another is given; one thread: waiting for others costs most."""

    def run(*arguments: object, model: Path = pristine_model, **options: object) -> Outcome:
        return hearsee("ask", *arguments, "--model", model, "--max-tokens", 3, "--threads", 1, **options)

    return run
