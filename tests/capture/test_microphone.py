from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from app.capture import microphone as module
from app.capture.microphone import PortAudioMicrophone, input_names
from app.common.errors import CaptureError


class PortAudioError(Exception):
    pass


class FakeStream:
    def __init__(self, owner: FakePortAudio, **options: object) -> None:
        self.options = options
        self.closed = False
        owner.streams.append(self)

    def start(self) -> None:
        for chunk in np.split(np.arange(1000, dtype=np.int16), 10):
            self.options["callback"](chunk.tobytes(), len(chunk), None, None)

    def abort(self, ignore_errors: bool) -> None:
        pass

    def close(self, ignore_errors: bool) -> None:
        self.closed = True


class FakePortAudio(types.ModuleType):
    """The part of sounddevice that is used, with devices that need no sound card."""

    PortAudioError = PortAudioError

    def __init__(self, devices: list[dict]) -> None:
        super().__init__("sounddevice")
        self.devices = devices
        self.streams: list[FakeStream] = []

    def query_devices(self, device: object = None, kind: str | None = None) -> object:
        if kind is None:
            return self.devices
        inputs = [d for d in self.devices if d["max_input_channels"]]
        if not inputs:
            raise PortAudioError("Error querying device -1")
        return inputs[-1]

    def RawInputStream(self, **options: object) -> FakeStream:  # noqa: N802 - its name
        return FakeStream(self, **options)


MICROPHONES = [
    {"name": "speakers", "max_input_channels": 0, "default_samplerate": 48000.0},
    {"name": "webcam", "max_input_channels": 1, "default_samplerate": 44100.0},
    {"name": "headset", "max_input_channels": 2, "default_samplerate": 48000.0},
]


@pytest.fixture
def port_audio(monkeypatch) -> FakePortAudio:
    fake = FakePortAudio(MICROPHONES)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


def test_sound_passes_at_the_devices_own_rate(port_audio):
    microphone = PortAudioMicrophone()
    with microphone:
        assert microphone.rate_hz == 48000
        np.testing.assert_array_equal(microphone.read(), np.arange(1000))
        stream = port_audio.streams[0]
        assert stream.options["channels"] == 1
        assert stream.options["dtype"] == "int16"
    assert stream.closed
    assert microphone.dropped_samples == 0


def test_a_device_that_falls_silent_is_an_error(port_audio, monkeypatch):
    monkeypatch.setattr(module, "_STALL_S", 0.05)
    with PortAudioMicrophone() as microphone:
        microphone.read()
        with pytest.raises(CaptureError, match=r"no sound for 0\.05 s"):
            microphone.read()


def test_a_device_that_goes_away_is_an_error(port_audio):
    with PortAudioMicrophone() as microphone:
        microphone.read()
        port_audio.streams[0].options["finished_callback"]()
        with pytest.raises(CaptureError, match="disconnected"):
            microphone.read()


def test_a_device_that_cannot_be_opened_is_an_error(port_audio, monkeypatch):
    def refuse(self, **options):
        raise PortAudioError("Device unavailable [PaErrorCode -9985]")

    monkeypatch.setattr(FakePortAudio, "RawInputStream", refuse)
    with pytest.raises(CaptureError, match=r"cannot be opened \(Device unavailable"), PortAudioMicrophone():
        pass


def test_no_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio([]))
    assert input_names() == []
    with pytest.raises(CaptureError, match="no microphone found"):
        PortAudioMicrophone()


def test_names_begin_with_the_default(port_audio):
    assert input_names() == ["headset", "webcam"]


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(CaptureError, match="libportaudio2"):
        PortAudioMicrophone()
