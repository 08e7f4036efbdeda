"""``hearsee`` on a pseudo-terminal and without one."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from app.cli.samples import load_samples
from tests.e2e.conftest import ROOT

pty = pytest.importorskip("pty", reason="pseudo-terminals are a Unix thing")

WAIT_S = 60


class OnTerminal:
    """``hearsee chat`` at a pseudo-terminal of its own."""

    def __init__(self, environment, *arguments):
        self.screen = ""
        self.master, slave = pty.openpty()
        command = [sys.executable, "-m", "app", *map(str, arguments)]
        settings = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        self.process = subprocess.Popen(command, cwd=ROOT, env={**environment, "TERM": "xterm"}, **settings)
        os.close(slave)

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, pattern):
        """Read until ``pattern`` appears, and drop what was read."""
        deadline = time.monotonic() + WAIT_S
        while not re.search(pattern, self.screen):
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.screen!r}"
            self.screen += self._answering(os.read(self.master, 65536).decode(errors="replace"))
        self.screen = ""

    def _answering(self, text):
        if "\x1b[6n" in text:  # where is the cursor?
            os.write(self.master, b"\x1b[1;1R")
        return text

    def finish(self):
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            os.close(self.master)


@pytest.fixture
def terminal(environment, tiny_model):
    return OnTerminal(environment, "chat", "--model", tiny_model, "--max-tokens", "40")


def test_a_conversation_with_a_picture_and_figures_after_each_answer(terminal, picture):
    terminal.wait_for("Hearsee with tiny")
    terminal.type("hello\r")
    terminal.wait_for(r"CPU · first token after \d+ ms · \d+ tokens/s")
    terminal.type(f"'{picture}'\r")
    terminal.wait_for("now ask about it")
    terminal.type("what is it?\r")
    terminal.wait_for(r"tokens/s · \d+ of \d+ prompt tokens reused")
    terminal.type("/quit\r")
    assert terminal.finish() == 0


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(terminal):
    terminal.wait_for("Hearsee with tiny")
    terminal.type("hello\r")
    time.sleep(0.3)  # somewhere in the answer, or after it: both must end well
    os.killpg(terminal.process.pid, signal.SIGINT)
    terminal.wait_for("tokens/s|stopped")
    terminal.type("again\r")
    terminal.wait_for("tokens/s")
    terminal.type("/quit\r")  # a Ctrl-D typed between two prompts is the terminal driver's and lost
    assert terminal.finish() == 0


@pytest.mark.parametrize("command", [(), ("chat",)])
def test_without_a_terminal_a_missing_model_is_one_line(hearsee, command):
    result = hearsee(*command, "--model", "unheard-of")
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("hearsee: ")]


def test_without_a_terminal_the_bundled_samples_are_answered(hearsee, tiny_model):
    result = hearsee("chat", "--max-tokens", "8", "--model", tiny_model, input="not a question", stdin=None)
    assert result.returncode == 0
    samples = load_samples()[:3]
    for sample in samples:
        assert sample.about in result.stderr
    assert len(re.findall(r"CPU · (first token after \d+ ms|no token)", result.stderr)) == len(samples) == 3
    assert result.stdout.strip()
