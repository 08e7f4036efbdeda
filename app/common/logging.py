"""The log file and the crash trace; set up once, by the command line.

No speech, picture, prompt or answer is logged above DEBUG: a log can be sent to a stranger.
"""

from __future__ import annotations

import faulthandler
import logging
import logging.handlers
import os
import sys
from typing import TYPE_CHECKING

from app.common.paths import state_dir

if TYPE_CHECKING:
    from pathlib import Path

_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(threadName)s] %(message)s"
_MAX_BYTES = 1_000_000
_KEPT_FILES = 3


def debugging() -> bool:
    """Whether HEARSEE_DEBUG asks for tracebacks and a log that may hold content."""
    return os.environ.get("HEARSEE_DEBUG", "") not in ("", "0")


def log_path() -> Path:
    """The log file, whether it exists or not."""
    return state_dir() / "hearsee.log"


def set_up_logging() -> Path | None:
    """Send the records of ``app`` to the log file and crashes of native code to stderr.

    Returns:
        The log file, or None where its folder cannot be written; the program goes on without.
    """
    if sys.stderr is not None:
        faulthandler.enable()
    logger = logging.getLogger("app")
    logger.setLevel(logging.DEBUG if debugging() else logging.INFO)
    logger.propagate = False
    try:
        log_path().parent.mkdir(parents=True, exist_ok=True)
        handler: logging.Handler = logging.handlers.RotatingFileHandler(
            log_path(), maxBytes=_MAX_BYTES, backupCount=_KEPT_FILES, encoding="utf-8", errors="backslashreplace"
        )
    except OSError:
        logger.addHandler(logging.NullHandler())
        return None
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    return log_path()
