"""No room left: converting ends with one line and leaves nothing half-made behind."""

from __future__ import annotations

import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 400 KiB; the model needs more than twice that."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("type_", ["f32", "q8_0", "q4_0", "q4_k_m"])
def test_converting_onto_a_full_disk(type_, checkpoint, small_disk, hearsee_process):
    outcome = hearsee_process("convert", checkpoint, small_disk / "model", "--type", type_)
    assert outcome.refused("No space left on device"), outcome
    assert [path.name for path in small_disk.iterdir()] == []


@pytest.mark.parametrize("type_", ["f32", "q8_0"])
def test_converting_beyond_the_largest_file_allowed(type_, checkpoint, tmp_path, hearsee_process):
    """The same failure of a write, for those who are not root."""
    outcome = hearsee_process(
        "convert",
        checkpoint,
        tmp_path / "model",
        "--type",
        type_,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert outcome.refused("model"), outcome
    assert not (tmp_path / "model").exists()


def test_an_answer_into_a_full_disk(hearsee_process, pristine_model):
    with open("/dev/full", "wb") as full:
        outcome = hearsee_process(
            "ask",
            "hello",
            "--model",
            pristine_model,
            "--threads",
            1,
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert outcome.refused("No space left on device"), outcome
