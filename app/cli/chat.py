"""``hearsee`` and ``hearsee chat``: the assistant in the terminal.

Where nobody can type (a pipe, CI), the bundled samples are answered instead, and standard input is
left alone: whether a pipe holds a question or is merely open cannot be told without waiting for it.
A question from a pipe is ``hearsee ask -``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from app.cli.answering import figures_line, open_assistant, open_model, show_answer
from app.cli.output import is_terminal, note
from app.cli.samples import load_samples

if TYPE_CHECKING:
    import argparse

N_SAMPLES = 3


def run(arguments: argparse.Namespace) -> int:
    """Converse, or answer the samples."""
    if not is_terminal(sys.stdin):
        return answer_samples(arguments)
    from app.cli.terminal import Terminal

    with open_model(arguments) as model, open_assistant(model, arguments) as assistant:
        Terminal(assistant, model.name).run()
    return 0


def answer_samples(arguments: argparse.Namespace) -> int:
    """Answer the bundled samples, each in a conversation of its own: question and figures on stderr."""
    samples = load_samples()[:N_SAMPLES]
    note('no terminal to type into: answering the bundled samples (from a script: hearsee ask "..." or hearsee ask -)')
    with open_model(arguments) as model, open_assistant(model, arguments) as assistant:
        for number, sample in enumerate(samples, start=1):
            note(f"\n{number}. {sample.about}{f': {sample.text}' if sample.text else ''}")
            assistant.conversation.clear()
            _, stats = show_answer(assistant, sample.parts())
            note(figures_line(stats))
    return 0
