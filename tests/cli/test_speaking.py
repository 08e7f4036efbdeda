from __future__ import annotations

import signal

import numpy as np
import pytest

from app.cli.speaking import record_question
from app.common.errors import CaptureError


class ConstantMicrophone:
    """Gives the same block again and again, faster than real time; interrupts after some blocks when asked to."""

    rate_hz = 16000
    dropped_samples = 0

    def __init__(self, block, interrupt_after=None):
        self.block = block
        self.interrupt_after = interrupt_after
        self.n_read = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self):
        self.n_read += 1
        if self.n_read == self.interrupt_after:
            signal.raise_signal(signal.SIGINT)
        return self.block


SILENCE = np.zeros(1600, np.int16)


def test_silence_is_no_question():
    assert record_question(open_microphone=lambda _: ConstantMicrophone(SILENCE)) is None


def test_ctrl_c_ends_the_recording_and_not_the_program():
    microphone = ConstantMicrophone(SILENCE, interrupt_after=3)
    before = signal.getsignal(signal.SIGINT)
    assert record_question(open_microphone=lambda _: microphone) is None
    assert microphone.n_read == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_the_named_microphone_is_opened_and_its_failure_told():
    def fail(name):
        raise CaptureError(f"there is no microphone {name}")

    with pytest.raises(CaptureError, match="desk"):
        record_question("desk", open_microphone=fail)
