"""Makes the README's picture: a real conversation on a pseudo-terminal, drawn as SVG.

Needs two more packages: pip install pyte rich

    .venv/bin/python scripts/terminal_picture.py docs/terminal.svg "LINE TO TYPE" "NEXT LINE" ...
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, LINES = 100, 40
QUIET_S = 1.0  # so long without output, and the prompt is really waiting
KEY_S = 0.03
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Type the lines, then write the picture."""
    target, *lines = sys.argv[1:]
    screen = pyte.Screen(COLUMNS, LINES)
    converse(screen, lines)
    Path(target).write_text(draw(screen), encoding="utf-8")


def converse(screen: pyte.Screen, lines: list[str]) -> None:
    """Run ``hearsee chat`` on a pseudo-terminal and type every line when it is quiet."""
    master, slave = pty.openpty()
    stream = pyte.ByteStream(screen)
    screen.write_process_input = lambda text: os.write(master, text.encode())
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    command = [sys.executable, "-m", "app", "chat"]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment)
    _wait_for_prompt(master, stream, screen)
    for line in lines:
        for key in f"{line}\r":
            os.write(master, key.encode())
            time.sleep(KEY_S)
        _wait_for_prompt(master, stream, screen)
    process.terminate()
    process.wait()


def _wait_for_prompt(master: int, stream: pyte.ByteStream, screen: pyte.Screen) -> None:
    while True:
        if select.select([master], [], [], QUIET_S)[0]:
            stream.feed(os.read(master, 65536))
        elif screen.display[screen.cursor.y].rstrip().endswith(">"):
            return


def draw(screen: pyte.Screen) -> str:
    """The screen as SVG, without the empty lines at its end."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    rows = [_row(screen, number) for number in range(LINES)]
    while rows and not rows[-1].plain.strip():
        rows.pop()
    for row in rows:
        console.print(row, soft_wrap=True)
    remote_fonts = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
    return remote_fonts.sub("", console.export_svg(title="hearsee")).replace("Fira Code", "ui-monospace")


def _row(screen: pyte.Screen, number: int) -> Text:
    cells = [screen.buffer[number][column] for column in range(COLUMNS)]
    row = Text()
    for (bold, colour), run in groupby(cells, key=lambda cell: (cell.bold, cell.fg)):
        style = " ".join(word for word, wanted in (("bold", bold), ("cyan", colour == "cyan")) if wanted)
        row.append("".join(cell.data for cell in run), style=style or None)
    row.rstrip()
    return row


if __name__ == "__main__":
    main()
