"""``hearsee validate run`` from the command line: what it writes, and one line for every unusable input."""

import numpy as np
import pytest
import yaml
from PIL import Image

from app.cli import main as cli
from app.convert.pipeline import convert
from app.convert.synthetic import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_checkpoint(folder / "checkpoint")
    convert(folder / "checkpoint", folder / "model", "f32")
    return folder / "model"


@pytest.fixture
def validate(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "set_up_logging", lambda: None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))

    def run(*parts, answer="Yes.", out="out.npz", extra=()):
        case = {"id": "one", "messages": [{"role": "user", "parts": list(parts)}], "answer": answer, "task": "ignored"}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"cases": [case]}))
        placement = ["--model", str(model), "--device", "cpu", "--threads", "1"]
        places = ["--suite", str(tmp_path), "--out", str(tmp_path / out)]
        status = cli.main(["validate", "run", *placement, *places, *extra])
        return status, capsys.readouterr().err

    return run


@pytest.mark.parametrize("extra", [(), ("--fast",)])
def test_writes_what_the_contract_says(validate, tmp_path, extra):
    Image.new("RGB", (90, 40), "teal").save(tmp_path / "a.png")
    status, _ = validate({"image": "a.png"}, {"text": "What?"}, {"text": " Well?"}, extra=extra)
    assert status == 0
    with np.load(tmp_path / "out.npz") as recording:
        arrays = dict(recording)
    assert set(arrays) == {"one/tokens", "one/logits", "one/image_embeddings"}
    assert {str(array.dtype) for array in arrays.values()} == {"int32", "float32"}
    rows, width = arrays["one/image_embeddings"].shape
    placeholder, count = np.unique(arrays["one/tokens"], return_counts=True)
    assert (rows, width) == (count.max(), 96)
    n_answer = len(arrays["one/logits"]) - 1
    assert n_answer >= 1
    assert arrays["one/logits"].shape[1] == 768
    assert placeholder.max() < 768


def test_an_empty_answer_gives_the_one_row_after_the_prompt(validate, tmp_path):
    assert validate({"text": "Hi"}, answer="")[0] == 0
    with np.load(tmp_path / "out.npz") as recording:
        assert set(recording.files) == {"one/tokens", "one/logits"}
        assert len(recording["one/logits"]) == 1


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"image": "broken.png"}, "case 'one'"),
        ({"audio": "broken.png"}, "case 'one'"),
        ({"audio": "missing.wav"}, "case 'one': messages[0]: parts[1]: audio"),
        ({"text": "word " * 2000}, "case 'one'"),
    ],
)
def test_unusable_media_and_endless_texts_are_one_line_and_no_file(validate, tmp_path, part, words):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    status, error = validate({"text": "Hi"}, part)
    assert status == 1
    assert words in error
    lines = [line for line in error.splitlines() if line.startswith("hearsee: ")]
    assert len(lines) == 1
    assert not (tmp_path / "out.npz").exists()


def test_lone_surrogates_do_not_crash(validate, tmp_path):
    (tmp_path / "suite.yaml").write_text("")
    status, _ = validate({"text": "a \ud800 b"}, answer="\udc00")
    assert status == 0


def test_an_unwritable_place_is_one_line(validate):
    status, error = validate({"text": "Hi"}, out="no/such/folder.npz")
    assert status == 1
    assert "cannot be written" in error
