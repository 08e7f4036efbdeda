"""Conversion when the disk does not play along: one line, nothing left behind."""

import shutil
from collections import namedtuple

import pytest

from app.common.errors import ConversionError, NativeCallError
from app.convert import synthetic
from app.convert.pipeline import convert

resource = pytest.importorskip("resource")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    synthetic.write_checkpoint(folder)
    return folder


@pytest.fixture
def limit_file_size():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("n_bytes", [10_000, 100_000, 250_000, 300_000])
@pytest.mark.parametrize("kind", ["f32", "q8_0"])
def test_no_room_for_a_file(checkpoint, tmp_path, limit_file_size, n_bytes, kind):
    limit_file_size(n_bytes)
    with pytest.raises(ConversionError, match=r"out cannot be written: .*; free some space") as error:
        convert(checkpoint, tmp_path / "out", kind)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def in_the_way_of_the_quantizer(out):
    """A progress callback that makes the quantizer's output file impossible."""

    def progress(stage, done, total):
        if stage == "quantize":
            (out.with_name(out.name + ".partial") / "language.gguf").mkdir(exist_ok=True)

    return progress


def test_the_quantizer_fails(checkpoint, tmp_path):
    with pytest.raises(NativeCallError, match="llama_model_quantize failed"):
        convert(checkpoint, tmp_path / "out", "q8_0", in_the_way_of_the_quantizer(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_the_quantizer_has_no_room(checkpoint, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(ConversionError, match="out cannot be written: No space left on device"):
        convert(checkpoint, tmp_path / "out", "q8_0", in_the_way_of_the_quantizer(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(checkpoint, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConversionError, match="cannot be written"):
        convert(checkpoint, tmp_path / "file" / "out", "q8_0")
