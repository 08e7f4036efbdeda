"""The conversation loop with typed keys, on a fake session."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from app.assistant.conversation import Conversation
from app.assistant.turn import Assistant
from app.cli import terminal
from app.common.errors import ContextOverflowError
from app.runtime.events import Finished, GenerateOptions, Stats, TokenText
from app.runtime.messages import Audio, Image, Text

STATS = Stats(10, 4, 0, 0, 2, 12.0, 100.0, 30.0, "stop", "text", "CPU")


class EchoSession:
    """Answers with the words of the question; fails when asked to."""

    def __init__(self):
        self.questions = []
        self.prefilled = []

    def prefill(self, messages, *, open_turn=True, coming=()):
        self.prefilled.append(messages[-1] if messages else None)

    def generate(self, messages, options):
        self.questions.append(messages)
        words = " ".join(part.text for part in messages[-1].parts if isinstance(part, Text))
        if words == "fail":
            raise ContextOverflowError("the conversation is too long; /new")
        yield TokenText(f"you said {words}")
        yield Finished(STATS)

    def cancel(self):
        pass


@pytest.fixture
def media(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Pillow.fromarray(np.full((4, 5, 3), 7, np.uint8)).save(tmp_path / "my cat.png")
    monkeypatch.setattr(
        "app.cli.shelf.load_audio", lambda path: Audio.from_samples(np.ones(16, np.float32), 16000, path.name)
    )
    (tmp_path / "talk.wav").write_bytes(b"sound")
    return tmp_path


@pytest.fixture
def converse(monkeypatch, capsys):
    """Types lines into a Terminal; returns the session, stdout and stderr."""

    def run(*lines, ending="/quit\r"):
        session = EchoSession()
        monkeypatch.setattr(terminal, "create_output", lambda stdout: DummyOutput())
        with create_pipe_input() as keys, create_app_session(input=keys):
            keys.send_text("".join(f"{line}\r" for line in lines) + ending)
            with Assistant(session, Conversation("be kind"), GenerateOptions()) as assistant:
                terminal.Terminal(assistant, "echo").run()
        return session, *capsys.readouterr()

    return run


def _kinds(message):
    return [type(part) for part in message.parts]


def test_a_question_is_answered_on_stdout_and_figures_are_on_stderr(converse):
    session, out, err = converse("hello there")
    assert out == "you said hello there\n"
    assert "CPU · first token after 12 ms · 30 tokens/s · 4 of 10 prompt tokens reused" in err
    assert [message.role for message in session.questions[0]] == ["system", "user"]


def test_the_conversation_goes_on_and_starts_anew(converse):
    session, _, err = converse("one", "two", "/new", "three")
    assert [len(messages) for messages in session.questions] == [2, 4, 2]
    assert "a new conversation" in err


@pytest.mark.parametrize("ending", ["/quit\r", "\x04", "/exit\r"])
def test_leaving(converse, ending):
    session, out, _ = converse(ending=ending)
    assert session.questions == []
    assert out == ""


def test_an_empty_line_and_an_unknown_command_ask_nothing(converse):
    session, _, err = converse("", "   ", "/frobnicate", "/help")
    assert session.questions == []
    assert "no command /frobnicate" in err
    assert "/image F" in err


def test_a_dropped_picture_waits_for_its_question_and_is_prefilled(converse, media):
    session, _, err = converse("'my cat.png'", "what is it?")
    assert _kinds(session.questions[0][-1]) == [Image, Text]
    assert "now ask about it" in err
    assert [Image] in [_kinds(message) for message in session.prefilled if message]


def test_a_path_in_the_line_goes_along_with_its_words(converse, media):
    session, out, _ = converse("what is my\\ cat.png ?")
    assert _kinds(session.questions[0][-1]) == [Image, Text]
    assert out == "you said what is ?\n"


def test_a_sound_alone_is_the_question(converse, media):
    session, _, _ = converse("talk.wav")
    assert _kinds(session.questions[0][-1]) == [Audio]


def test_a_spoken_question_about_a_picture(converse, media):
    session, _, _ = converse("/image my cat.png", "talk.wav")
    assert _kinds(session.questions[0][-1]) == [Image, Audio]


def test_attached_by_command_and_asked_with_enter(converse, media):
    session, _, _ = converse("/audio talk.wav", "")
    assert _kinds(session.questions[0][-1]) == [Audio]


def test_ctrl_c_puts_the_attached_things_away(converse, media):
    session, _, _ = converse("/image my cat.png", "\x03hello")
    assert _kinds(session.questions[0][-1]) == [Text]


def test_after_an_error_the_next_question_works(converse):
    session, out, err = converse("one", "fail", "two")
    assert "hearsee: the conversation is too long; /new" in err
    assert out == "you said one\nyou said two\n"
    assert len(session.questions[-1]) == 4


@pytest.mark.parametrize("line", ["/image", "/audio"])
def test_a_command_without_its_file_asks_for_it(converse, line):
    assert "which file?" in converse(line)[2]


def test_a_damaged_picture_is_one_line(converse, media):
    (media / "bad.png").write_bytes(b"not a picture")
    session, _, err = converse("/image bad.png", "/image absent.png", "hello")
    assert err.count("hearsee: ") == 2
    assert _kinds(session.questions[0][-1]) == [Text]
