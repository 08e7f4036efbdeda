"""The microphone, by PortAudio, and what can be wrong with it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from app.capture.ring import Ring
from app.common.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType, TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

_RING_S = 4.0
_STALL_S = 1.0  # a suspended or hung sound server says nothing, the callbacks just stop
_POLL_S = 0.01
_ADVICE = "check that a microphone is connected and allowed (hearsee doctor)"


class Microphone(Protocol):
    """Mono sound as it comes in; used as a context manager around the recording."""

    @property
    def rate_hz(self) -> int:
        """Sample rate of what :meth:`read` gives."""
        ...

    @property
    def dropped_samples(self) -> int:
        """Samples lost so far because nobody read in time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self) -> NDArray[np.int16]:
        """Wait a moment for sound and return it, int16, shape (n,), n > 0.

        Raises:
            CaptureError: the device is gone or silent.
        """
        ...


def input_names() -> list[str]:
    """Names of the devices that can record, the default first; empty without any.

    Raises:
        CaptureError: the PortAudio library is missing.
    """
    sounddevice = _sounddevice()
    try:
        devices = sounddevice.query_devices()
        default = sounddevice.query_devices(kind="input")["name"] if len(devices) else None
    except sounddevice.PortAudioError:
        return []
    names = [device["name"] for device in devices if device["max_input_channels"] > 0]
    return sorted(names, key=lambda name: name != default)


class PortAudioMicrophone:
    """Records from an input device at the device's own rate.

    PortAudio's thread only copies into the ring. Blocking reads are not used: they hang when
    the sound server does.
    """

    def __init__(self, device: str | int | None = None) -> None:
        """Choose a device by name or number, or the system's default.

        Raises:
            CaptureError: PortAudio or the device is missing.
        """
        self._sounddevice = _sounddevice()
        self._device = device
        self._finished = False
        self._stream: Any = None
        self.rate_hz = self._native_rate_hz()
        self._ring = Ring(int(_RING_S * self.rate_hz))

    @property
    def dropped_samples(self) -> int:
        """See :class:`Microphone`."""
        return self._ring.dropped_samples

    def __enter__(self) -> Self:
        """Start recording.

        Raises:
            CaptureError: the device cannot be opened.
        """
        try:
            with _quiet_libraries():
                self._stream = self._open()
                self._stream.start()
        except self._sounddevice.PortAudioError as error:
            raise CaptureError(f"the microphone cannot be opened ({_reason(error)}); {_ADVICE}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once and close."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)

    def read(self) -> NDArray[np.int16]:
        """See :class:`Microphone`."""
        deadline = time.monotonic() + _STALL_S
        while not self._ring.available_samples:
            if self._finished:
                raise CaptureError(f"the microphone was disconnected; {_ADVICE}")
            if time.monotonic() > deadline:
                raise CaptureError(f"the microphone has delivered no sound for {_STALL_S:g} s; {_ADVICE}")
            time.sleep(_POLL_S)
        return self._ring.read()

    def _open(self) -> Any:  # noqa: ANN401 - sounddevice has no types
        return self._sounddevice.RawInputStream(
            samplerate=self.rate_hz,
            device=self._device,
            channels=1,
            dtype="int16",
            callback=self._on_sound,
            finished_callback=self._on_finished,
        )

    def _on_sound(self, data: memoryview, _frames: int, _time: object, _status: object) -> None:
        self._ring.write(data)

    def _on_finished(self) -> None:
        self._finished = True

    def _native_rate_hz(self) -> int:
        try:
            return int(self._sounddevice.query_devices(self._device, "input")["default_samplerate"])
        except (self._sounddevice.PortAudioError, ValueError) as error:
            raise CaptureError(f"no microphone found ({_reason(error)}); {_ADVICE}") from error


def _sounddevice() -> ModuleType:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: its library is missing
        raise CaptureError(
            "the microphone needs the PortAudio library; install it (Debian, Ubuntu: apt install libportaudio2)"
        ) from error
    return sounddevice


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """PortAudio and ALSA write paragraphs about a failure to stderr; the exception says it in one line."""
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
