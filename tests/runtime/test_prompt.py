from __future__ import annotations

import numpy as np
import pytest

from app.common.errors import ConfigError
from app.runtime.formats.params import TokenIds
from app.runtime.messages import Audio, Image, Message, Text
from app.runtime.prompt import WHITE_SPACE, Mode, PromptBuilder, joined, mode_of

IDS = TokenIds(
    endoftext=1000, image=1001, audio=1002, assistant=1003, end=1004, user=1005, system=1006, tool=1007, tool_end=1008
)
IMAGE = Image.from_pixels(np.zeros((2, 3, 3), np.uint8))
AUDIO = Audio.from_samples(np.zeros(800, np.float32), 16000)


class CodePoints:
    """A tokenizer whose ids are code points, so that prompts can be read."""

    def encode(self, text):
        return [ord(character) for character in text]


def build(*messages, **options):
    return PromptBuilder(CodePoints(), IDS).build(messages, **options)


def user(*parts):
    return Message("user", tuple(Text(part) if isinstance(part, str) else part for part in parts))


def ids(text):
    return [ord(character) for character in text]


def test_a_conversation_has_tags_by_id_and_no_line_breaks():
    prompt = build(Message("system", (Text("S"),)), user("Q"), Message("assistant", (Text("A"),)), user("R"))
    expected = [1006, *ids("S"), 1004, 1005, *ids("Q"), 1004, 1003, *ids("A"), 1004, 1005, *ids("R"), 1004, 1003]
    assert prompt.segments == [expected]
    assert prompt.mode is Mode.TEXT


def test_media_stand_between_their_texts_in_order():
    prompt = build(user(AUDIO, "a", IMAGE, IMAGE, "b"))
    assert prompt.segments == [[1005], AUDIO, ids("a"), IMAGE, IMAGE, [*ids("b"), 1004, 1003]]
    assert prompt.mode is Mode.VISION_SPEECH


def test_white_space_directly_after_a_tag_is_dropped_and_kept_elsewhere():
    assert build(user(" \n\x85 a ")).segments == [[1005, *ids("a "), 1004, 1003]]
    assert build(user(" ", IMAGE, " b")).segments == [[1005], IMAGE, [*ids(" b"), 1004, 1003]]
    assert build(user("\x1c\u200ba")).segments == [[1005, *ids("\x1c\u200ba"), 1004, 1003]]


def test_white_space_is_what_unicode_says():
    by_database = {chr(c) for c in range(0x110000) if chr(c).isspace()} - set("\x1c\x1d\x1e\x1f")
    assert set(WHITE_SPACE) == by_database


def test_neighbouring_texts_are_joined_before_they_are_tokenised():
    class Lengths:
        def encode(self, text):
            return [len(text)]

    builder = PromptBuilder(Lengths(), IDS)
    assert builder.build([user("ab", "", "cd")]).segments == [[1005, 4, 1004, 1003]]
    assert joined([Text("a"), Text(""), IMAGE, Text(""), AUDIO]) == [Text("a"), IMAGE, AUDIO]


def test_tools_stand_inside_the_system_message():
    prompt = build(Message("system", (Text("S "),), tools=" [] "))
    assert prompt.segments == [[1006, *ids("S "), 1007, *ids("[] "), 1008, 1004, 1003]]


def test_tools_elsewhere_are_refused():
    with pytest.raises(ConfigError, match="user message"):
        build(Message("user", (), tools="[]"))


def test_an_unknown_role_is_refused():
    with pytest.raises(ConfigError, match="no role 'robot'"):
        build(Message("robot", ()))


def test_an_open_turn_lacks_its_end_and_the_request_for_an_answer():
    closed = build(Message("system", (Text("S"),)), user(IMAGE, "x"))
    opened = build(Message("system", (Text("S"),)), user(IMAGE, "x"), open_turn=True)
    assert opened.segments == [[1006, *ids("S"), 1004, 1005], IMAGE, ids("x")]
    assert closed.segments[:2] == opened.segments[:2]
    assert build(open_turn=True).segments == []


def test_the_mode_is_decided_by_all_media_of_the_conversation():
    assert mode_of([user("a"), user(AUDIO)]) is Mode.SPEECH
    assert mode_of([user(IMAGE), user("a")]) is Mode.VISION
    assert [mode.adapter for mode in Mode] == [None, "speech", "vision", "vision"]
