"""The conversation loop on a terminal: lines, attachments, commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.output import create_output

from app.assistant.attachments import Typed, as_path, take_apart
from app.cli.answering import figures_line, show_answer
from app.cli.ask import valid_unicode
from app.cli.output import is_terminal, note
from app.cli.shelf import Shelf
from app.common.errors import Cancelled, HearseeError
from app.runtime.messages import Audio, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prompt_toolkit.buffer import Buffer

    from app.assistant.turn import Assistant
    from app.runtime.messages import Part

HELP = """\
Type a question and press Enter. A picture or a sound in it (a path typed,
pasted or dropped) goes along. A picture alone waits for its question, a sound
alone is the question.
  /image F    attach a picture             /new    forget the conversation
  /audio F    attach a sound               /help   this page
  /speak [M]  ask by voice, microphone M   /quit   leave (or Ctrl-D)
Ctrl-C stops a running answer."""
_LEAVE = ("/quit", "/exit", "/q")
_LONGEST_WATCHED_LINE = 4096  # beyond this a line is a pasted text, not a path


def _screen() -> TextIO:
    """Where the prompt is shown: not on stdout, which is for answers, unless only that is a terminal."""
    return sys.stderr if is_terminal(sys.stderr) else sys.stdout


class Terminal:
    """Reads lines until the person leaves.

    What was typed is remembered for the arrow keys only while the program runs; nothing is written to disk.
    """

    def __init__(self, assistant: Assistant, model_name: str) -> None:
        """Prepare the prompt; nothing is read yet."""
        self._assistant = assistant
        self._model_name = model_name
        self._shelf = Shelf()
        self._foreseen = Typed("")
        self._lines: PromptSession[str] = PromptSession(
            history=InMemoryHistory(), output=create_output(stdout=_screen())
        )
        self._lines.default_buffer.on_text_changed += self._foresee
        self._commands: dict[str, Callable[[str], None]] = {
            "/image": self._attach_image,
            "/audio": self._attach_audio,
            "/speak": self._speak,
            "/new": self._new,
            "/help": lambda _: note(HELP),
        }

    def run(self) -> None:
        """Converse until /quit or Ctrl-D."""
        note(f"Hearsee with {self._model_name}. Type a question, or drop a picture or a sound here; /help, /quit.")
        self._assistant.prepare(self._shelf.parts)
        while (line := self._read()) is not None and line not in _LEAVE:
            try:
                self._handle(line)
            except Cancelled:
                note("stopped")
            except HearseeError as error:
                note(f"hearsee: {error}")
                self._shelf.clear()

    def _read(self) -> str | None:
        """The next line; None when the person leaves; empty after Ctrl-C, which also clears the shelf."""
        names = "".join(f"[{name}] " for name in self._shelf.names())
        self._foreseen = Typed("")
        try:
            line = self._lines.prompt(FormattedText([("ansicyan", names), ("bold", "> ")]))
        except EOFError:
            return None
        except KeyboardInterrupt:
            self._shelf.clear()
            return ""
        return valid_unicode(line).strip()

    def _foresee(self, buffer: Buffer) -> None:
        """Start on a picture or sound as soon as its path stands in the line, while the person types on."""
        typed = take_apart(buffer.text) if len(buffer.text) <= _LONGEST_WATCHED_LINE else Typed("")
        media = Typed("", typed.images, typed.audios)
        if media.has_media and media != self._foreseen:
            self._foreseen = media
            self._assistant.prepare(lambda: self._shelf.with_typed(media))

    def _handle(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        typed = take_apart(line)
        if command in self._commands:
            self._commands[command](rest.strip())
        elif command.startswith("/") and "/" not in command[1:] and not typed.has_media:
            note(f"there is no command {command}; /help shows what there is")
        else:
            self._say(typed)

    def _say(self, typed: Typed) -> None:
        self._shelf.add(typed)
        if typed.images and not typed.audios and not typed.text:
            note("a picture; now ask about it")
            self._prepare_shelf()
        elif typed.text or self._shelf.names():
            self._ask([*self._shelf.take(), *([Text(typed.text)] if typed.text else [])])

    def _ask(self, parts: Sequence[Part]) -> None:
        _, stats = show_answer(self._assistant, parts)
        note(figures_line(stats))

    def _attach_image(self, name: str) -> None:
        if not name:
            note("which file? /image F")
            return
        self._shelf.add_image(as_path(name))
        self._prepare_shelf()

    def _attach_audio(self, name: str) -> None:
        if not name:
            note("which file? /audio F")
            return
        self._shelf.add_audio(as_path(name))
        self._prepare_shelf()

    def _speak(self, microphone: str) -> None:
        from app.cli.speaking import record_question  # PortAudio and the detector, only when asked for

        self._assistant.prepare(self._shelf.parts, coming=(Audio,))
        utterance = record_question(microphone or None)
        if utterance is None:
            note("nothing was said; /speak to try again")
        else:
            self._ask([*self._shelf.take(), utterance])

    def _prepare_shelf(self) -> None:
        self._assistant.prepare(self._shelf.parts)

    def _new(self, _: str) -> None:
        self._assistant.stop_ahead()
        self._assistant.conversation.clear()
        self._shelf.clear()
        self._prepare_shelf()
        note("a new conversation")
