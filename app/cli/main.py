"""The ``hearsee`` command: arguments in, exit status out.

The answer alone goes to stdout; everything else to stderr. Exit 0, 2 for wrong usage, 1 with one
line ``hearsee: what failed, on what, what to do``, 130 after Ctrl-C, 141 when the reader of our
output went away. What a command needs is imported when it runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from typing import TYPE_CHECKING

from app.cli.arguments import UsageError, build_parser
from app.common.errors import Cancelled, HearseeError
from app.common.logging import debugging, set_up_logging

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141

_log = logging.getLogger("app.cli")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; never raises and never prints a traceback unless asked."""
    _use_utf8()
    arguments = build_parser().parse_args(argv)  # exits with 2 on wrong usage
    try:
        status = _run(arguments)
        _flush()
        return status
    except (KeyboardInterrupt, Cancelled):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _detach_stdout()
        return EXIT_READER_GONE
    except UsageError as error:
        _fail(str(error), error)
        return EXIT_USAGE
    except HearseeError as error:
        return _fail(str(error), error)
    except MemoryError as error:
        return _fail("out of memory; close other programs or use a smaller model", error)
    except Exception as error:  # the last barrier: a bug of ours becomes one line and a log entry
        return _fail(_describe(error), error)


def _run(arguments: argparse.Namespace) -> int:
    arguments.log_path = set_up_logging()
    _log.info("command %s", arguments.command)
    module = importlib.import_module(arguments.module)
    status: int = module.run(arguments)
    return status


def _use_utf8() -> None:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            errors = "surrogateescape" if stream is sys.stdin else "backslashreplace"
            stream.reconfigure(encoding="utf-8", errors=errors)


def _flush() -> None:
    """Flush inside the guarded region: a full disk or a gone reader shows here at the latest."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _detach_stdout() -> None:
    """Point stdout at nothing, so that Python's own flush at exit does not complain again."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.close(sink)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    where = "" if debugging() else "; HEARSEE_DEBUG=1 shows where"
    return f"unexpected {type(error).__name__}: {error}{where}"


def _fail(message: str, error: Exception) -> int:
    _log.error(
        "%s",
        type(error).__name__,
        exc_info=error if debugging() or not isinstance(error, HearseeError | UsageError) else None,
    )
    one_line = " ".join(message.split())
    if sys.stderr is not None:
        print(f"hearsee: {one_line}", file=sys.stderr)
    if debugging():
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError) and sys.stdout is not None:
        _detach_stdout()
    return EXIT_FAILED
