"""One call of a session at a time, and a cancel that reaches exactly the right ones."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from app.common.errors import HearseeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.runtime.language.context import CancelFlag


class CallGate:
    """Lets one call at a time in, and makes a cancel reach exactly the calls that were asked for before it."""

    def __init__(self, flag: CancelFlag) -> None:
        self._flag = flag
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._n_cancels = 0

    def ticket(self) -> int:
        """Taken when a call is asked for."""
        with self._lock:
            return self._n_cancels

    def cancel(self) -> None:
        """Cancel every call whose ticket was taken before."""
        with self._lock:
            self._n_cancels += 1
            self._flag.set()

    @contextlib.contextmanager
    def enter(self, ticket: int) -> Iterator[None]:
        """Run a call."""
        if not self._busy.acquire(blocking=False):
            raise HearseeError("the session is answering already; cancel that answer or wait for it")
        try:
            with self._lock:
                if self._n_cancels == ticket:
                    self._flag.clear()
                else:
                    self._flag.set()
            yield
        finally:
            self._busy.release()
