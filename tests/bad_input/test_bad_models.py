"""Damaged, foreign and mixed-up model files: one clear line and exit 1."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from gguf import GGUFWriter
from helpers.checkpoints import wider
from helpers.media_files import gradient, picture_file, tone, wav_file

from app.convert.pipeline import convert
from app.convert.synthetic import write_checkpoint
from app.runtime.formats.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = ("language", "vision_adapter", "speech_adapter", "vision_encoder", "audio_encoder")


@pytest.fixture
def question(tmp_path) -> Callable[[str], list[object]]:
    """Arguments of a question that needs the given file of the model."""
    (tmp_path / "picture.png").write_bytes(picture_file(gradient(40, 30), "PNG"))
    (tmp_path / "sound.wav").write_bytes(wav_file(tone(16000), 16000))
    media = {"vision": ["--image", tmp_path / "picture.png"], "speech": ["--audio", tmp_path / "sound.wav"]}
    media["audio"] = media["speech"]
    return lambda file: ["hello", *media.get(file.split("_")[0], [])]


def file_of(model: Path, file: str) -> Path:
    return model / f"{file.replace('_', '-')}.gguf"


def replace_file(model: Path, file: str, data: bytes) -> None:
    """As whoever can change the file can: with the right size and checksum in the manifest."""
    file_of(model, file).write_bytes(data)
    manifest = yaml.safe_load((model / MANIFEST_FILE).read_text())
    manifest["files"][file] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (model / MANIFEST_FILE).write_text(yaml.safe_dump(manifest))


def foreign_gguf(path: Path) -> bytes:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_file_is_refused(file, model, question, ask):
    path = file_of(model, file)
    path.write_bytes(path.read_bytes()[:-1000])
    assert (outcome := ask(*question(file), model=model)).refused(path.name), outcome


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_is_noticed(file, model, question, ask):
    path = file_of(model, file)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    assert (outcome := ask(*question(file), model=model)).refused(path.name), outcome


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(file, model, question, ask):
    file_of(model, file).unlink()
    assert (outcome := ask(*question(file), model=model)).refused(file_of(model, file).name), outcome


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_a_truncated_file_with_the_right_checksum_is_refused(file, share, model, question, ask):
    data = file_of(model, file).read_bytes()
    replace_file(model, file, data[: int(share * len(data))])
    assert (outcome := ask(*question(file), model=model)).refused(), outcome


@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_architecture_is_refused(file, model, question, ask, tmp_path):
    replace_file(model, file, foreign_gguf(tmp_path / "foreign.gguf"))
    assert (outcome := ask(*question(file), model=model)).refused(file_of(model, file).name), outcome


@pytest.mark.parametrize("file", FILES)
def test_another_file_in_its_place_is_refused(file, model, question, ask):
    other = FILES[(FILES.index(file) + 1) % len(FILES)]
    replace_file(model, file, file_of(model, other).read_bytes())
    outcome = ask(*question(file), model=model)
    if {file, other} == {"vision_adapter", "speech_adapter"}:
        assert outcome.answered or outcome.refused(), outcome  # both fit; they are adapters of this very model
    else:
        assert outcome.refused(file_of(model, file).name), outcome


@pytest.fixture(scope="session")
def wider_model(tmp_path_factory) -> Path:
    """Another model, of other sizes."""
    folder = tmp_path_factory.mktemp("wider")
    write_checkpoint(folder / "checkpoint", wider())
    convert(folder / "checkpoint", folder / "model", "q8_0")
    return folder / "model"


@pytest.mark.parametrize("file", FILES[1:])
def test_a_file_of_another_model_is_refused(file, model, wider_model, question, ask):
    replace_file(model, file, file_of(wider_model, file).read_bytes())
    outcome = ask(*question(file), model=model)
    assert outcome.refused(), outcome


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "format: 99\n",
        "[1, 2]",
        "format: 1\nfiles: [",
        "format: 1\nname: x\nmodes: [text]\nfiles: {}\n",
        "format: 1\nname: x\nmodes: text\nfiles: {language: {path: /etc/hostname, bytes: 1, sha256: x, type: f32}}\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "!!python/object/apply:os.system ['true']",
        "- " * 3000,
        "\xff\xfe binary",
    ],
    ids=range(11),
)
def test_a_broken_manifest_is_refused(text, model, ask):
    (model / MANIFEST_FILE).write_text(text, encoding="latin-1")
    assert (outcome := ask("hello", model=model)).refused(MANIFEST_FILE), outcome


@pytest.mark.parametrize("path", ["../outside.gguf", "/etc/hostname", "language.gguf/../../outside.gguf", ""])
def test_a_manifest_cannot_name_files_elsewhere(path, model, ask):
    shutil.copy(model / "language.gguf", model.parent / "outside.gguf")
    manifest = yaml.safe_load((model / MANIFEST_FILE).read_text())
    manifest["files"]["language"]["path"] = path
    (model / MANIFEST_FILE).write_text(yaml.safe_dump(manifest))
    assert (outcome := ask("hello", model=model)).refused(), outcome


def test_a_model_that_is_no_directory_is_refused(tmp_path, ask):
    (tmp_path / "file").write_text("x")
    for model in (tmp_path / "absent", tmp_path / "file", tmp_path):
        assert (outcome := ask("hello", model=model)).refused(), outcome


def test_the_command_as_a_process_behaves_alike(model, hearsee_process):
    data = file_of(model, "language").read_bytes()
    replace_file(model, "language", data[: len(data) // 2])
    assert (outcome := hearsee_process("ask", "hello", "--model", model)).refused("language.gguf"), outcome
