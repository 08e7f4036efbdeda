"""``hearsee ask``: one question about words, pictures and sounds; one answer."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from app.cli.answering import figures_line, open_assistant, open_model, show_answer
from app.cli.arguments import UsageError
from app.cli.output import is_terminal, note
from app.common.errors import Cancelled
from app.runtime.messages import Text

if TYPE_CHECKING:
    import argparse

    from app.runtime.events import Stats
    from app.runtime.messages import Part

FROM_STDIN = "-"
_SURROGATES = re.compile("[\ud800-\udfff]+")


def run(arguments: argparse.Namespace) -> int:
    """Answer on stdout. The question's files are read before the model is loaded: mistakes show at once."""
    parts = _parts(arguments)
    with open_model(arguments) as model, open_assistant(model, arguments) as assistant:
        text, stats = show_answer(assistant, parts, stream=not arguments.json)
        if arguments.json:
            print(json.dumps(as_object(text, stats, model.name), ensure_ascii=False))
    if stats.finish_reason == "cancelled":
        raise Cancelled
    if is_terminal(sys.stderr) and not arguments.json:
        note(figures_line(stats))
    return 0


def as_object(text: str, stats: Stats, model: str) -> dict[str, object]:
    """The object ``--json`` prints."""
    return {
        "text": text,
        "finish_reason": stats.finish_reason,
        "mode": stats.mode,
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "image_tokens": stats.image_tokens,
        "audio_tokens": stats.audio_tokens,
        "ttft_ms": stats.ttft_ms,
        "decode_tokens_per_s": stats.decode_tokens_per_s,
        "device": stats.device,
        "model": model,
    }


def _parts(arguments: argparse.Namespace) -> list[Part]:
    from app.runtime.audio.decode import load_audio  # the decoders cost start-up time, a typed question needs none
    from app.runtime.vision.decode import load_image

    text = _text(arguments)
    images = [load_image(path) for path in arguments.image]
    audios = [load_audio(path) for path in arguments.audio]
    return [*images, *audios, *([Text(text)] if text else [])]


def _text(arguments: argparse.Namespace) -> str:
    nothing_else = arguments.text is None and not arguments.image and not arguments.audio
    if nothing_else and (sys.stdin is None or is_terminal(sys.stdin)):
        raise UsageError("nothing to ask; give a TEXT, an --image or an --audio")
    text: str = sys.stdin.read() if nothing_else or arguments.text == FROM_STDIN else arguments.text or ""
    if not text.strip() and not arguments.image and not arguments.audio:
        raise UsageError("the question is empty; give a TEXT, an --image or an --audio")
    return valid_unicode(text)


def valid_unicode(text: str) -> str:
    """``text`` as UTF-8 has it: bytes Python could not decode are tried again, what stays unreadable is marked."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
