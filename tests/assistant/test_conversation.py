from __future__ import annotations

import numpy as np

from app.assistant.conversation import Conversation
from app.runtime.messages import Audio, Image, Text

PICTURE = Image.from_pixels(np.zeros((2, 2, 3), np.uint8))
SOUND = Audio.from_samples(np.zeros(160, np.float32), 16000)


def test_a_question_alone_does_not_enter():
    conversation = Conversation("be brief")
    messages = conversation.with_question([Text("hello")])
    assert [message.role for message in messages] == ["system", "user"]
    assert len(conversation) == 0
    assert [message.role for message in conversation.messages()] == ["system"]


def test_turns_follow_each_other():
    conversation = Conversation()
    conversation.add_turn([Text("a")], "b")
    messages = conversation.with_question([Text("c")])
    assert [(message.role, message.parts[0].text) for message in messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


def test_media_come_before_words_as_the_model_was_trained():
    message = Conversation().with_question([Text("a"), SOUND, Text("b"), PICTURE])[-1]
    assert message.parts == (PICTURE, SOUND, Text("a"), Text("b"))


def test_the_oldest_turns_go_first_and_all_go_on_clear():
    conversation = Conversation("s")
    for number in range(3):
        conversation.add_turn([Text(str(number))], "answer")
    conversation.drop_oldest(2)
    assert [message.parts[0].text for message in conversation.messages()] == ["s", "2", "answer"]
    conversation.clear()
    assert [message.role for message in conversation.messages()] == ["system"]
