"""What libggml and libllama print, routed to Python's logging.

Lines go to the logger "app.runtime.native" at DEBUG whatever their native level; the last
warnings and errors are kept so that a Python error can quote them.

Threads: the callbacks run on whatever thread the library uses; they hold the GIL.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import time
from collections import deque
from typing import Final

_logger: Final = logging.getLogger("app.runtime.native")

_WARN, _CONT = 3, 5  # enum ggml_log_level
_FRESH_S = 10.0  # an older line belongs to something else
_QUOTED_LINES = 3

_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_AbortCallback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class _LineCollector:
    """Joins the pieces the libraries print into lines; keeps the last troubling ones."""

    def __init__(self) -> None:
        self._pending = ""
        self._level = 0
        self.troubles: deque[tuple[float, str]] = deque(maxlen=_QUOTED_LINES)

    def add(self, level: int, text: str) -> None:
        """Take one piece; ``level`` is a ggml_log_level."""
        if level != _CONT:
            self.flush()
            self._level = level
        self._pending += text
        if self._pending.endswith("\n") or len(self._pending) > 4096:
            self.flush()

    def flush(self) -> None:
        """Log what is pending as one line."""
        line, self._pending = self._pending.strip(), ""
        if not line:
            return
        _logger.debug("%s", line)
        if self._level >= _WARN:
            self.troubles.append((time.monotonic(), line))


_collector = _LineCollector()


def _on_log(level: int, text: bytes | None, _user_data: int | None) -> None:
    _collector.add(level, (text or b"").decode(errors="replace"))


def _on_abort(message: bytes | None) -> None:
    """The library ends the process after this returns: say why, in one line, unbuffered."""
    text = " ".join((message or b"").decode(errors="replace").split())
    os.write(2, f"hearsee: the native library gave up: {text}; please report this\n".encode())


# Kept for the life of the process: the libraries hold their addresses.
_LOG_CALLBACK: Final = _LogCallback(_on_log)
_ABORT_CALLBACK: Final = _AbortCallback(_on_abort)


def install(base: ctypes.CDLL, llama: ctypes.CDLL) -> None:
    """Register the callbacks; taken back at exit, before Python's own state is gone."""
    listen(llama)
    if hasattr(base, "ggml_set_abort_callback"):
        base.ggml_set_abort_callback.argtypes = (ctypes.c_void_p,)
        base.ggml_set_abort_callback.restype = ctypes.c_void_p
        base.ggml_set_abort_callback(ctypes.cast(_ABORT_CALLBACK, ctypes.c_void_p))
        atexit.register(base.ggml_set_abort_callback, None)
    atexit.register(llama.llama_log_set, None, None)


def listen(llama: ctypes.CDLL) -> None:
    """Take the log, also back from the package llama_cpp, which sets its own handler when it is imported."""
    llama.llama_log_set.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    llama.llama_log_set.restype = None
    llama.llama_log_set(ctypes.cast(_LOG_CALLBACK, ctypes.c_void_p), None)  # sets ggml's too


def recent_troubles() -> str:
    """The freshest native warnings and errors as one line; each is given out once; may be empty."""
    _collector.flush()
    since = time.monotonic() - _FRESH_S
    lines = [line for at, line in _collector.troubles if at >= since]
    _collector.troubles.clear()
    return " | ".join(lines)


def with_troubles(message: str) -> str:
    """``message`` with what the native library said about it, where it said anything."""
    said = recent_troubles()
    return f"{message} (ggml said: {said})" if said else message
