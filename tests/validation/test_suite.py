"""Suites: what is read, and that every malformed one is refused with the case and key in the message."""

import os
import re

import pytest
import yaml

from app.common.errors import ValidationError
from app.validation.suite import CasePart, load_suite

GOOD = {
    "id": "one",
    "messages": [{"role": "user", "parts": [{"image": "a.png"}, {"text": "What?"}]}],
    "answer": "A cat.",
}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")

    def write_cases(*cases, text=None):
        (tmp_path / "suite.yaml").write_text(text if text is not None else yaml.safe_dump({"cases": list(cases)}))
        return tmp_path

    return write_cases


def test_reads_cases_in_order_with_media_as_paths(write):
    directory = write(GOOD, {**GOOD, "id": 7, "messages": [{"role": "system", "parts": []}], "answer": ""})
    first, second = load_suite(directory)
    assert first.messages[0].parts == (CasePart("image", str(directory / "a.png")), CasePart("text", "What?"))
    assert (first.id, first.answer, first.mode) == ("one", "A cat.", "vision")
    assert (second.id, second.answer, second.mode) == ("7", "", "text")


@pytest.mark.parametrize(
    ("kinds", "mode"),
    [((), "text"), (("audio",), "speech"), (("image",), "vision"), (("audio", "image"), "vision_speech")],
)
def test_mode_is_that_of_all_media_in_all_messages(write, kinds, mode):
    messages = [{"role": "user", "parts": [{kind: "a.png"}]} for kind in kinds]
    (case,) = load_suite(write({**GOOD, "messages": [*messages, {"role": "assistant", "parts": [{"text": "x"}]}]}))
    assert case.mode == mode


def part(value):
    return {**GOOD, "messages": [{"role": "user", "parts": [value]}]}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("nonsense", "case 1: must be a mapping"),
        ({**GOOD, "id": None}, "case 1: 'id'"),
        ({**GOOD, "id": True}, "case 1: 'id'"),
        ({**GOOD, "id": "a\nb"}, "case 1: 'id'"),
        ({**GOOD, "id": "../up"}, "case 1: 'id'"),
        ({**GOOD, "messages": {}}, "case 'one': 'messages' must be a list"),
        ({**GOOD, "messages": []}, "case 'one': 'messages' is empty"),
        ({**GOOD, "messages": ["hi"]}, r"case 'one': messages\[0\]: must be a mapping"),
        ({**GOOD, "messages": [{"role": "robot", "parts": []}]}, r"messages\[0\]: 'role' is 'robot'"),
        ({**GOOD, "messages": [{"role": [], "parts": []}]}, r"messages\[0\]: 'role' is \[\]"),
        ({**GOOD, "messages": [{"role": "user"}]}, r"messages\[0\]: 'parts' must be a list, found nothing"),
        ({**GOOD, "messages": [{"role": "user", "content": "x", "parts": []}]}, "unknown key 'content'"),
        ({**GOOD, "answer": 42}, "case 'one': 'answer' must be text, found 42"),
        ({key: GOOD[key] for key in ("id", "messages")}, "case 'one': 'answer' must be text, found nothing"),
        (part("hi"), r"case 'one': messages\[0\]: parts\[0\]: must be a mapping"),
        (part({"video": "a.png"}), r"parts\[0\]: has the keys \['video'\]"),
        (part({"text": "a", "image": "a.png"}), "use exactly one of text, image, audio"),
        (part({"text": None}), "'text' must be text"),
        (part({"image": ["a.png"]}), "'image' must be text"),
        (part({"image": "b.png"}), "image: 'b.png' cannot be read"),
        (part({"image": "."}), "is not a regular file"),
        (part({"audio": ""}), "is not a file name relative to the suite"),
        (part({"audio": "/etc/passwd"}), "is not a file name relative to the suite"),
        (part({"audio": "x/../../a.png"}), "is not a file name relative to the suite"),
        (part({"audio": "a\0b"}), "is not a file name relative to the suite"),
        (part({"image": "n" * 5000}), "cannot be read"),
    ],
)
def test_malformed_case_is_refused_by_case_and_key(write, case, words):
    with pytest.raises(ValidationError, match=words) as refusal:
        load_suite(write(case))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("cases: 3", "'cases' must be a list"),
        ("cases: []", "'cases' is empty"),
        ("cases: [", "is not valid YAML"),
        ("cases: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("\0", "is not valid YAML"),
        ("cases: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("cases: &a [*a]", "case 1: must be a mapping"),
        ("&a {cases: *a}", "'cases' must be a list"),
    ],
)
def test_malformed_file_is_refused(write, text, words):
    with pytest.raises(ValidationError, match=words):
        load_suite(write(text=text))


def test_repeated_id_is_refused(write):
    with pytest.raises(ValidationError, match="case 'one': 'id' is used twice"):
        load_suite(write(GOOD, GOOD))


def test_missing_suite_and_pipe_are_refused(write, tmp_path):
    with pytest.raises(ValidationError, match=re.escape("suite.yaml")):
        load_suite(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(ValidationError, match="not a regular file"):
        load_suite(write(part({"audio": "pipe.wav"})))
