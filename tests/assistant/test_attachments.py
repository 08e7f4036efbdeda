from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.assistant.attachments import as_path, take_apart


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "my cat.JPG", "it's.png", "question.wav", "notes.txt", "größe.png", "a(1).png"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_words_alone_stay_as_they_are(files):
    typed = take_apart("  what is   2 + 2? ")
    assert typed.text == "what is   2 + 2?"
    assert not typed.has_media


@pytest.mark.parametrize(
    "line",
    [
        "what is this? {path}",
        "{path} what is this?",
        "what is this? '{path}'",
        'what is this? "{path}"',
        "what is this? {uri}",
    ],
)
def test_a_path_among_words_is_attached_and_taken_out(files, line):
    path = files / "cat.png"
    typed = take_apart(line.format(path=path, uri=path.as_uri()))
    assert typed.images == (path,)
    assert typed.text == "what is this?"


def test_a_relative_path_counts_with_a_sign_of_the_sentence_after_it(files):
    typed = take_apart("compare cat.png and question.wav.")
    assert typed.images == (Path("cat.png"),)
    assert typed.audios == (Path("question.wav"),)
    assert typed.text == "compare and ."


@pytest.mark.parametrize("style", ["{0}", "'{0}'", '"{0}"', "{1}", "{2}"])
def test_a_dropped_path_with_blanks_is_understood_however_the_terminal_writes_it(files, style):
    path = files / "my cat.JPG"
    written = style.format(path, str(path).replace(" ", "\\ "), path.as_uri())
    assert take_apart(written).images == (path,)


@pytest.mark.parametrize("name", ["it's.png", "größe.png", "a(1).png"])
def test_unusual_names(files, name):
    path = files / name
    escaped = "".join(f"\\{c}" if c in " '()" else c for c in str(path))
    assert take_apart(f"{escaped} ?").images == (path,)
    assert take_apart("file://" + quote(str(path))).images == (path,)


def test_two_dropped_files_are_two(files):
    typed = take_apart(f"{files / 'cat.png'} '{files / 'my cat.JPG'}'")
    assert typed.images == (files / "cat.png", files / "my cat.JPG")
    assert typed.text == ""


def test_a_file_that_is_not_there_or_not_media_is_only_a_word(files):
    assert take_apart("read notes.txt and dog.png").text == "read notes.txt and dog.png"
    assert not take_apart("a folder: . .. / ~").has_media


def test_the_home_folder_is_known(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    assert take_apart("~/cat.png").images == (files / "cat.png",)
    assert as_path("~nobody-of-that-name/x.png").name == "x.png"


@given(st.text(max_size=200))
def test_any_line_is_survived(line):
    typed = take_apart(line)
    if not typed.has_media:
        assert typed.text == line.strip()


@given(st.text(max_size=60))
def test_a_path_is_always_made(piece):
    assert isinstance(as_path(piece), Path)


def test_an_endless_word_is_no_path():
    assert not take_apart("x" * 100_000 + ".png").has_media
