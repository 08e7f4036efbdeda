"""Ctrl-C while native code computes on the main thread.

Python would raise KeyboardInterrupt inside the callback that the library asks whether to stop;
ctypes can only print and forget it there. So the signal is noted, ends the computation, and is
raised again once the native call has returned.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Collect SIGINT in the yielded list; afterwards the handler that was there sees it.

    Does nothing on other threads than the main one, which get no signals.
    """
    noted: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield noted
        return

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, previous)
        if noted:
            signal.raise_signal(signal.SIGINT)
