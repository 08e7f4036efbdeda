from __future__ import annotations

import numpy as np
import pytest

from app.assistant.policy import DEFAULT_SYSTEM_MESSAGE, check_limits
from app.common.errors import MediaError
from app.runtime.messages import Audio, Text


def _sound(seconds):
    return Audio.from_samples(np.zeros(int(seconds * 16000), np.float32), 16000, "talk.wav")


def test_guesses_about_people_from_their_voice_are_forbidden():
    assert "voice" in DEFAULT_SYSTEM_MESSAGE
    assert "Never infer" in DEFAULT_SYSTEM_MESSAGE


def test_a_sound_may_be_as_long_as_the_model_hears():
    check_limits([Text("x"), _sound(40.0)], 40.0)
    check_limits([_sound(99.0)], None)
    with pytest.raises(MediaError, match=r"talk\.wav lasts 41 s.*up to 40 s"):
        check_limits([_sound(41.0)], 40.0)
