"""Stand-ins for devices: tests and demonstrations without a microphone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from app.common.errors import CaptureError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray


class FileMicrophone:
    """Plays samples as if they were spoken now; after them there is silence, or the device is gone."""

    def __init__(
        self,
        samples: NDArray[np.int16],
        rate_hz: int,
        *,
        chunk_samples: int = 320,
        real_time: bool = False,
        unplugged_at_end: bool = False,
    ) -> None:
        """Take int16 samples of shape (n,).

        Args:
            samples: what is heard.
            rate_hz: its sample rate.
            chunk_samples: size of each read.
            real_time: wait as long as the sound lasts.
            unplugged_at_end: raise CaptureError after the last sample.
        """
        self._samples = samples
        self._chunk_samples = chunk_samples
        self._real_time = real_time
        self._unplugged_at_end = unplugged_at_end
        self._position = 0
        self.rate_hz = rate_hz
        self.dropped_samples = 0
        self.is_open = False

    def __enter__(self) -> Self:
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False

    def read(self) -> NDArray[np.int16]:
        """The next chunk, or silence.

        Raises:
            CaptureError: at the end, if so asked.
        """
        if self._real_time:
            time.sleep(self._chunk_samples / self.rate_hz)
        chunk = self._samples[self._position : self._position + self._chunk_samples]
        self._position += len(chunk)
        if len(chunk):
            return chunk
        if self._unplugged_at_end:
            raise CaptureError("the microphone was disconnected; connect it again")
        return np.zeros(self._chunk_samples, np.int16)
