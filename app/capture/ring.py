"""A ring of samples between the audio callback and the thread that listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE_BYTES = 2


class Ring:
    """Holds int16 samples for one producer and one consumer without locks.

    The producer owns ``_written``, the consumer ``_read``; both only grow, and each is changed
    after the copy it announces. When there is no room the new chunk is dropped whole and
    counted: what was heard before it stays in one piece.
    """

    def __init__(self, capacity_samples: int) -> None:
        """Allocate everything; ``capacity_samples`` should be at least two seconds."""
        self._samples = np.zeros(capacity_samples, np.int16)
        self._bytes = memoryview(self._samples).cast("B")
        self._written = 0
        self._read = 0
        self._dropped = 0

    @property
    def available_samples(self) -> int:
        """Samples waiting to be read."""
        return self._written - self._read

    @property
    def written_samples(self) -> int:
        """Samples taken in so far; stands still when the device stops."""
        return self._written

    @property
    def dropped_samples(self) -> int:
        """Samples lost because nobody read in time."""
        return self._dropped

    def write(self, chunk: bytes | memoryview) -> None:
        """Copy a chunk of int16 samples in; for the audio callback: no lock, no growth, no log."""
        source = memoryview(chunk).cast("B")
        n_samples = len(source) // _SAMPLE_BYTES
        if n_samples > len(self._samples) - self.available_samples:
            self._dropped += n_samples
            return
        start = self._written % len(self._samples) * _SAMPLE_BYTES
        first = min(len(source), len(self._bytes) - start)
        self._bytes[start : start + first] = source[:first]
        self._bytes[: len(source) - first] = source[first:]
        self._written += n_samples

    def read(self) -> NDArray[np.int16]:
        """Everything that waits, int16, shape (n_samples,)."""
        n_samples = self.available_samples
        start = self._read % len(self._samples)
        first = self._samples[start : start + n_samples]
        rest = self._samples[: n_samples - len(first)]
        taken = np.concatenate([first, rest])
        self._read += n_samples
        return taken
