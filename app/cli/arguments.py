"""What can be typed after ``hearsee``; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

from app import __version__

BENCHES = ("encoders", "language", "session", "capture", "startup", "demo")
TYPES = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
_MODEL_HELP = "a name that `hearsee models list` shows, or a model directory"


class UsageError(Exception):
    """The command cannot be meant like this; exit status 2."""


def positive_int(text: str) -> int:
    """An argument that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return value


def gpu_layers(text: str) -> int | None:
    """``auto`` (None) or a whole number from 0."""
    if text == "auto":
        return None
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor a whole number from 0")
    return value


def temperature(text: str) -> float:
    """A finite number from 0 to 2."""
    value = float(text)
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 2")
    return value


# argparse names the type in its message: "invalid whole number value: 'x'".
positive_int.__name__ = "whole number"
gpu_layers.__name__ = "layers"
temperature.__name__ = "temperature"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command carries the module whose ``run(arguments)`` does it."""
    parser = argparse.ArgumentParser(
        prog="hearsee",
        description="A private desktop assistant that hears and sees. "
        "Without a command: the conversation in the terminal.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hearsee {__version__}")
    parser.set_defaults(command="chat", module="app.cli.chat")
    _add_placement(parser)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for add in (_add_chat, _add_ask, _add_convert, _add_models, _add_validate, _add_bench, _add_doctor):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(command=name, module=f"app.cli.{name}")
    return parser


def _add_placement(parser: argparse.ArgumentParser) -> None:
    """Which model, and where it runs; an option that is not given is not set, and the settings decide."""
    absent = argparse.SUPPRESS
    parser.add_argument("--model", metavar="NAME|DIR", default=absent, help=_MODEL_HELP)
    parser.add_argument(
        "--device", metavar="auto|cpu|NAME", default=absent, help="where the model runs; see `hearsee doctor`"
    )
    parser.add_argument(
        "--gpu-layers",
        type=gpu_layers,
        metavar="auto|N",
        default=absent,
        help="layers of the language model on the device",
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", default=absent, help="CPU threads")


def _add_generation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=positive_int, metavar="N", help="longest answer")
    parser.add_argument(
        "--temperature", type=temperature, metavar="T", default=0.0, help="0 (default) always takes the likeliest word"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="makes an answer with a temperature repeatable")
    parser.add_argument("--system", metavar="TEXT", help="system message, instead of the model's own")


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "chat", "the assistant in the terminal")
    _add_placement(parser)
    _add_generation(parser)


def _add_ask(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "ask", "one question, one answer")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the question; - reads it from standard input")
    parser.add_argument(
        "--image", action="append", default=[], type=Path, metavar="F", help="a picture; may be repeated"
    )
    parser.add_argument("--audio", action="append", default=[], type=Path, metavar="F", help="a sound; may be repeated")
    parser.add_argument("--schema", type=Path, metavar="F", help="JSON schema the answer must follow")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the streamed text")
    _add_placement(parser)
    _add_generation(parser)


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "convert", "a Hugging Face checkpoint folder to a model directory")
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder of the checkpoint, Microsoft's layout or Hugging Face's"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="model directory to write")
    parser.add_argument(
        "--type", choices=TYPES, type=str.lower, default="q8_0", help="type of the weights (default: q8_0)"
    )
    parser.add_argument("--force", action="store_true", help="replace a model that is at OUT already")
    parser.add_argument("--name", metavar="NAME", help="the model's name (default: OUT's)")
    parser.add_argument("--origin", metavar="TEXT", help="where the checkpoint came from (default: SOURCE's name)")
    parser.add_argument("--revision", metavar="TEXT", default="", help="which revision of it")
    parser.add_argument("--licence", metavar="TEXT", default="", help="under which licence")
    parser.add_argument("--system", metavar="TEXT", help="default system message, instead of Hearsee's; may be empty")


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "models", "the models on this computer")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    actions.add_parser("list", help="bundled and installed models").add_argument("--json", action="store_true")
    install = actions.add_parser("install", help="copy a model directory to the installed models, after checking it")
    install.add_argument("source", metavar="DIR", help="a directory that `hearsee convert` wrote")
    verify = actions.add_parser("verify", help="compare every file with its checksum")
    verify.add_argument("models", nargs="*", metavar="NAME|DIR", help="default: all")
    remove = actions.add_parser("remove", help="delete an installed model")
    remove.add_argument("name", metavar="NAME")


def _add_validate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "validate", "measure a model against full-precision outputs")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    record = actions.add_parser(
        "record", help="full-precision outputs of a checkpoint, with PyTorch (extra `reference`)"
    )
    record.add_argument("--checkpoint", type=Path, required=True, metavar="DIR")
    run = actions.add_parser("run", help="a model's outputs for the same cases")
    _add_placement(run)
    run.add_argument("--fast", action="store_true", help="the settings of the app instead of the most exact ones")
    for action in (record, run):
        action.add_argument("--suite", type=Path, required=True, metavar="DIR", help="folder with suite.yaml")
        action.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    _add_comparison(
        actions.add_parser(
            "compare", help="agreement of two recordings; without arguments: the bundled model with its reference"
        )
    )
    report = actions.add_parser("report", help="the comparison as a Markdown page")
    _add_comparison(report)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN.npz", help="what `validate run` wrote")
    parser.add_argument("reference", nargs="?", type=Path, metavar="REFERENCE.npz", help="what `validate record` wrote")
    parser.add_argument("--json", action="store_true", help="one JSON object of numbers")


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "bench", "the figures of the README, measured here")
    parser.add_argument("name", nargs="?", choices=BENCHES, metavar="|".join(BENCHES), help="default: every one")
    parser.add_argument("--full", action="store_true", help="at the real model's size, with random weights")
    parser.add_argument("--json", action="store_true", help="one flat JSON object of numbers")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "doctor", "what works on this computer")
    parser.add_argument("--json", action="store_true", help="one JSON object")
