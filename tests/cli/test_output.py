from __future__ import annotations

import io

import pytest

from app.cli import output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_answer_goes_to_stdout_as_it_is(capsys):
    output.write_answer("a\x1b[31mb\n")
    assert capsys.readouterr() == ("a\x1b[31mb\n", "")


def test_a_model_cannot_steer_the_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    output.write_answer("red\x1b[31m \x07bell\x9b2J\r tab\there\nline")
    assert terminal.getvalue() == "red[31m bell2J tab\there\nline"


def test_without_streams_nothing_fails(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    output.write_answer("x")
    output.note("x")
    output.Progress().show("x")


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_notes_are_dim_only_where_colours_are_wanted(monkeypatch, variable, value):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    output.note("a")
    monkeypatch.setenv(variable, value)
    output.note("b")
    assert terminal.getvalue() == "\x1b[2ma\x1b[0m\nb\n"


def test_progress_leaves_no_trace(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = output.Progress()
    progress.show("half")
    progress.clear()
    progress.clear()
    assert terminal.getvalue() == "\r\x1b[K\x1b[2mhalf\x1b[0m\r\x1b[K"


def test_progress_is_silent_in_a_log(capsys):
    output.Progress().show("half")
    assert capsys.readouterr() == ("", "")
