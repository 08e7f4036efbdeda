"""What a person sees: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TextIO

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_CLEAR_LINE = "\r\x1b[K"
_HARMLESS = "\n\t"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads or types at the other end."""
    return stream is not None and not stream.closed and stream.isatty()


def write_answer(text: str) -> None:
    """A piece of the answer, shown at once.

    On a terminal control characters are left out: a model must not move the cursor or set colours.
    """
    if sys.stdout is None:
        return
    sys.stdout.write(harmless(text) if is_terminal(sys.stdout) else text)
    sys.stdout.flush()


def harmless(text: str) -> str:
    """``text`` without control characters except line ends and tabs."""
    return "".join(c for c in text if c in _HARMLESS or unicodedata.category(c) != "Cc")


def note(text: str) -> None:
    """A line on stderr, dimmed on a terminal that shows colours."""
    if sys.stderr is None:
        return
    dim = is_terminal(sys.stderr) and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print(f"{_DIM}{harmless(text)}{_PLAIN}" if dim else harmless(text), file=sys.stderr, flush=True)


class Progress:
    """One line on a terminal's stderr that is overwritten, and gone in the end; silent elsewhere."""

    def __init__(self) -> None:
        self._visible = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        self._dirty = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._visible:
            sys.stderr.write(f"{_CLEAR_LINE}{_DIM}{harmless(text)}{_PLAIN}")
            sys.stderr.flush()
            self._dirty = True

    def clear(self) -> None:
        """Remove the line, before anything else is written."""
        if self._dirty:
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()
            self._dirty = False
