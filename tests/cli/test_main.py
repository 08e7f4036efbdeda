"""The frame of the command line: exit status, the one line, what goes where."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from app.cli import main as cli
from app.cli.arguments import UsageError, build_parser
from app.common.errors import Cancelled, ConfigError


@pytest.fixture
def command(monkeypatch):
    """Makes ``hearsee doctor`` do what the test wants."""
    monkeypatch.setattr(cli, "set_up_logging", lambda: None)
    monkeypatch.delenv("HEARSEE_DEBUG", raising=False)

    def become(action):
        monkeypatch.setattr(cli.importlib, "import_module", lambda _: SimpleNamespace(run=action))
        return cli.main(["doctor"])

    return become


def raising(error):
    def action(_arguments):
        raise error

    return action


def test_the_status_of_the_command_is_the_exit_status(command):
    assert command(lambda _: 0) == 0
    assert command(lambda _: 1) == 1


def test_an_error_is_one_line_and_exit_1(command, capsys):
    assert command(raising(ConfigError("no model 'x'\n; see hearsee models list"))) == 1
    assert capsys.readouterr() == ("", "hearsee: no model 'x' ; see hearsee models list\n")


def test_wrong_usage_found_late_is_exit_2(command, capsys):
    assert command(raising(UsageError("nothing to ask; give a TEXT"))) == 2
    assert capsys.readouterr().err == "hearsee: nothing to ask; give a TEXT\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Cancelled()])
def test_stopping_is_no_error(command, capsys, error):
    assert command(raising(error)) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("oops"), "hearsee: unexpected ZeroDivisionError: oops; HEARSEE_DEBUG=1 shows where\n"),
        (MemoryError(), "hearsee: out of memory; close other programs or use a smaller model\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), "hearsee: Permission denied: a.png\n"),
    ],
)
def test_a_bug_or_the_system_is_one_line_too(command, capsys, monkeypatch, error, message):
    monkeypatch.setattr(cli, "_detach_stdout", lambda: None)
    assert command(raising(error)) == 1
    assert capsys.readouterr().err == message


def test_debugging_shows_where(command, capsys, monkeypatch):
    monkeypatch.setenv("HEARSEE_DEBUG", "1")
    assert command(raising(ZeroDivisionError("oops"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", "--max-tokens", "0"],
        ["ask", "--max-tokens", "many"],
        ["ask", "--gpu-layers", "-1"],
        ["ask", "--temperature", "nan"],
        ["ask", "one", "two"],
        ["frobnicate"],
        ["convert", "only-one"],
        ["convert", "a", "b", "--type", "q3_k_xl"],
        ["bench", "nothing"],
        ["models"],
        ["models", "remove"],
        ["validate", "run", "--model", "x"],
    ],
)
def test_wrong_usage_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""


def test_an_option_before_the_command_counts_and_one_after_it_wins():
    parser = build_parser()
    assert parser.parse_args(["--model", "a", "ask", "hi"]).model == "a"
    assert parser.parse_args(["--model", "a", "ask", "hi", "--model", "b"]).model == "b"
    assert not hasattr(parser.parse_args(["ask", "hi"]), "model")


def test_without_a_command_it_is_the_conversation():
    assert build_parser().parse_args([]).module == "app.cli.chat"


def _hearsee(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "app", *arguments], capture_output=True, check=False, **options)


def test_help_loads_nothing_heavy():
    code = "import sys, app.cli.main as m; m.build_parser(); print(*sorted({n.split('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "yaml", "prompt_toolkit", "PIL", "av", "tokenizers", "ctypes"} & set(loaded)


def test_a_reader_that_goes_away_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "app", "models", "list", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.stderr == b""
    assert result.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "app", "models", "list", "--json"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.stderr == b"hearsee: No space left on device\n"
    assert result.returncode == 1


def test_the_words_are_utf_8_whatever_the_locale_says(tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    result = _hearsee("models", "verify", "größe", env=environment)
    assert "größe" in result.stderr.decode()
    assert result.returncode == 1
