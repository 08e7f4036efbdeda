"""Opens a model and shows an answer while it comes; shared by ask, chat and the samples."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.assistant.conversation import Conversation
from app.assistant.turn import Assistant
from app.cli.output import Progress, note, write_answer
from app.cli.placement import find_model, settings_of
from app.common.errors import ConfigError, HearseeError
from app.runtime.events import Finished, GenerateOptions, PrefillProgress, SessionOptions, TokenText, TurnsDropped
from app.runtime.language.grammar import grammar_of_schema
from app.runtime.language.sampling import SamplingOptions
from app.runtime.model import Model

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from app.runtime.events import Event, Stats
    from app.runtime.messages import Part

DEFAULT_MAX_TOKENS = 1000


@contextmanager
def open_model(arguments: argparse.Namespace) -> Iterator[Model]:
    """The model the arguments and settings name, loaded; freed at the end.

    Raises:
        HearseeError: it is missing, damaged, or does not fit the device.
    """
    settings = settings_of(arguments)
    directory = find_model(settings.model)
    progress = Progress()
    progress.show(f"loading {directory.name} ...")
    try:
        model = Model.open(
            directory, device=settings.device, gpu_layers=settings.gpu_layers, n_threads=settings.threads
        )
    finally:
        progress.clear()
    with model:
        yield model


@contextmanager
def open_assistant(model: Model, arguments: argparse.Namespace) -> Iterator[Assistant]:
    """A new conversation with ``model``; oldest turns are dropped when it grows too long."""
    given = getattr(arguments, "system", None)
    conversation = Conversation(model.manifest.system_message if given is None else given)
    with model.session(SessionOptions(overflow="drop_oldest")) as session:
        limit_s = model.manifest.limits.audio_s
        with Assistant(session, conversation, generate_options(arguments), limit_s) as assistant:
            yield assistant


def generate_options(arguments: argparse.Namespace) -> GenerateOptions:
    """How to answer, from ``--max-tokens``, ``--temperature`` and ``--seed`` where the command has them."""
    temperature = getattr(arguments, "temperature", 0.0)
    seed = getattr(arguments, "seed", None) or 0
    sampling = SamplingOptions(temperature=temperature, seed=seed, grammar=_grammar(getattr(arguments, "schema", None)))
    return GenerateOptions(getattr(arguments, "max_tokens", None) or DEFAULT_MAX_TOKENS, sampling)


def _grammar(schema: Path | None) -> str | None:
    if schema is None:
        return None
    try:
        return grammar_of_schema(schema.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"cannot use {schema} ({error}); give a file with a JSON schema") from error


def show_answer(assistant: Assistant, parts: Sequence[Part], *, stream: bool = True) -> tuple[str, Stats]:
    """Ask, stream the answer to stdout, and return it with its figures.

    Ctrl-C stops the answer at the next token; the conversation keeps what came.

    Raises:
        HearseeError: the question cannot be answered; the conversation is as before.
    """
    words: list[str] = []
    progress = Progress()
    with stopping(assistant):
        try:
            for event in assistant.ask(parts):
                stats = _show(event, words, progress, stream)
        finally:
            progress.clear()
            if stream and words:
                write_answer("\n")
    if stats is None:
        raise HearseeError("the answer ended without its figures; please report this")
    return "".join(words), stats


def _show(event: Event, words: list[str], progress: Progress, stream: bool) -> Stats | None:
    if isinstance(event, TokenText):
        progress.clear()
        words.append(event.text)
        if stream:
            write_answer(event.text)
    elif isinstance(event, PrefillProgress):
        progress.show(f"{event.stage} {event.done_tokens} of {event.total_tokens} tokens")
    elif isinstance(event, TurnsDropped):
        progress.clear()
        note(f"the conversation grew too long: the oldest {event.n_turns} turns were forgotten")
    return event.stats if isinstance(event, Finished) else None


@contextmanager
def stopping(assistant: Assistant) -> Iterator[None]:
    """Let Ctrl-C stop the running answer instead of the program; a second one stops the program."""

    def stop(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assistant.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def figures_line(stats: Stats) -> str:
    """Device, time to first token, speed and what the cache saved, in one line."""
    first = "no token" if stats.ttft_ms is None else f"first token after {stats.ttft_ms:.0f} ms"
    speed = f"{stats.decode_tokens_per_s:.0f} tokens/s"
    return f"{stats.device} · {first} · {speed} · {stats.cached_tokens} of {stats.prompt_tokens} prompt tokens reused"
