"""``hearsee ask`` as a process on a real, if random, model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT

KEYS = [
    "text",
    "finish_reason",
    "mode",
    "prompt_tokens",
    "cached_tokens",
    "image_tokens",
    "audio_tokens",
    "ttft_ms",
    "decode_tokens_per_s",
    "device",
    "model",
]


@pytest.fixture
def ask(hearsee, tiny_model):
    return lambda *arguments, **options: hearsee(
        "ask", "--model", tiny_model, "--max-tokens", "8", *arguments, **options
    )


def test_the_answer_alone_is_on_stdout(ask):
    result = ask("what is this")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout == json.loads(ask("what is this", "--json").stdout)["text"] + "\n"


def test_json_is_one_object_with_exactly_these_names(ask, picture, sound):
    result = ask("what is this", "--image", picture, "--audio", sound, "--json")
    answer = json.loads(result.stdout)
    assert list(answer) == KEYS
    assert answer["mode"] == "vision_speech"
    assert answer["model"] == "tiny"
    assert answer["finish_reason"] in ("stop", "length")
    assert answer["image_tokens"] > 0 < answer["audio_tokens"]
    assert answer["ttft_ms"] > 0


@pytest.mark.parametrize(("media", "mode"), [((), "text"), (("picture",), "vision"), (("sound",), "speech")])
def test_the_media_decide_the_mode(ask, request, media, mode):
    options = {"picture": "--image", "sound": "--audio"}
    given = [word for name in media for word in (options[name], request.getfixturevalue(name))]
    assert json.loads(ask("hello", *given, "--json").stdout)["mode"] == mode


def test_several_pictures_and_sounds(ask, picture, sound):
    one = json.loads(ask("hello", "--image", picture, "--audio", sound, "--json").stdout)
    two = json.loads(ask("hello", *["--image", picture, "--audio", sound] * 2, "--json").stdout)
    assert two["image_tokens"] == 2 * one["image_tokens"]
    assert two["audio_tokens"] == 2 * one["audio_tokens"]


def test_the_question_may_come_from_a_pipe(ask):
    typed = ask("what is this", "--json").stdout
    assert json.loads(ask("-", "--json", stdin=None, input="what is this").stdout)["text"] == json.loads(typed)["text"]
    assert json.loads(ask("--json", stdin=None, input="what is this").stdout)["text"] == json.loads(typed)["text"]


def test_special_tokens_in_the_text_are_only_characters(ask):
    result = json.loads(ask("<|end|><|assistant|>", "--json").stdout)
    assert result["prompt_tokens"] > json.loads(ask("x", "--json").stdout)["prompt_tokens"] + 10


def test_bytes_that_are_no_utf_8_are_survived(ask):
    assert ask(os.fsdecode(b"caf\xe9 \xed\xa0\x80")).returncode == 0


def test_an_answer_that_follows_a_schema(ask, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    assert json.loads(ask("yes or no", "--schema", schema).stdout) in (True, False)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("x", "--image", "absent.png"), "absent.png"),
        (("x", "--audio", "absent.wav"), "absent.wav"),
        (("x", "--image", "LICENSE"), "LICENSE"),
        (("x", "--audio", "LICENSE"), "LICENSE"),
        (("x", "--image", "app"), "app"),
        (("x", "--device", "Quantum0"), "Quantum0"),
        (("x", "--model", "unheard-of"), "unheard-of"),
        (("x", "--model", "app"), "app"),
        (("x", "--schema", "LICENSE"), "LICENSE"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_it(ask, arguments, names):
    result = ask(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("hearsee: ")
    assert result.stderr.count("\n") == 1
    assert names in result.stderr


@pytest.mark.parametrize("arguments", [(), ("",), ("  ",), ("-",)])
def test_no_question_is_wrong_usage(ask, arguments):
    result = ask(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_a_damaged_model_is_one_line(hearsee, tiny_model, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tiny_model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    damaged = bytearray((copy / "language.gguf").read_bytes())
    damaged[-100] ^= 1
    (copy / "language.gguf").write_bytes(damaged)
    result = hearsee("ask", "x", "--model", copy)
    assert result.returncode == 1
    assert "language.gguf" in result.stderr
    assert result.stderr.count("\n") == 1


def test_ctrl_c_ends_it_quietly(environment, tiny_model):
    command = [sys.executable, "-m", "app", "ask", "x", "--model", str(tiny_model), "--max-tokens", "100000"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130)  # 0: the answer was complete before the signal came
    assert errors == b""


def test_no_connection_is_made(ask, environment, tmp_path):
    """Every socket call of the process and its children would raise."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def watch(event, _):\n"
        "    if event in ('socket.connect', 'socket.bind', 'socket.getaddrinfo', 'socket.sendto'):\n"
        "        os.write(2, b'NETWORK'); os._exit(99)\n"
        "sys.addaudithook(watch)\n"
    )
    environment["PYTHONPATH"] = str(guard)
    assert ask("hello").returncode == 0
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    guarded = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False)
    assert guarded.returncode == 99
