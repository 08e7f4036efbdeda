"""``hearsee models``, ``convert`` and ``doctor`` as processes."""

from __future__ import annotations

import json
import shutil

import pytest

from app.cli.arguments import BENCHES, TYPES
from app.convert import synthetic
from app.convert.types import CONVERSION_TYPES


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "my-model")


def _names(hearsee):
    return {row["name"]: row["where"] for row in json.loads(hearsee("models", "list", "--json").stdout)}


def test_a_model_is_installed_used_by_name_and_removed(hearsee, copy):
    result = hearsee("models", "install", copy)
    assert (result.returncode, result.stdout) == (0, "")
    assert _names(hearsee)["my-model"] == "installed"
    shutil.rmtree(copy)
    answer = json.loads(hearsee("ask", "hello", "--model", "my-model", "--max-tokens", "2", "--json").stdout)
    assert answer["model"] == "tiny"
    assert hearsee("models", "verify", "my-model").returncode == 0
    assert hearsee("models", "remove", "my-model").returncode == 0
    assert "my-model" not in _names(hearsee)


def test_a_damaged_model_is_found_and_not_installed(hearsee, copy):
    damaged = bytearray((copy / "audio-encoder.gguf").read_bytes())
    damaged[-1] ^= 0xFF
    (copy / "audio-encoder.gguf").write_bytes(damaged)
    for action in ("verify", "install"):
        result = hearsee("models", action, copy)
        assert result.returncode == 1
        assert "audio-encoder.gguf" in result.stderr
    assert "my-model" not in _names(hearsee)


@pytest.mark.parametrize("name", ["absent", "../my-model", ".", "demo/../demo"])
def test_only_an_installed_model_can_be_removed(hearsee, copy, name):
    result = hearsee("models", "remove", name)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert copy.is_dir()


def test_a_name_that_cannot_be_downloaded_says_what_to_do(hearsee):
    result = hearsee("models", "install", "phi-4-multimodal")
    assert result.returncode == 1
    assert "hearsee convert" in result.stderr


def test_installing_twice_is_refused(hearsee, copy):
    assert hearsee("models", "install", copy).returncode == 0
    result = hearsee("models", "install", copy)
    assert result.returncode == 1
    assert "already" in result.stderr


def test_convert_writes_what_ask_opens(hearsee, tmp_path):
    synthetic.write_checkpoint(tmp_path / "checkpoint", synthetic.tiny(), seed=9, layout="original")
    result = hearsee("convert", tmp_path / "checkpoint", tmp_path / "out", "--type", "Q8_0", "--name", "mine")
    assert (result.returncode, result.stdout) == (0, "")
    answer = json.loads(hearsee("ask", "x", "--model", tmp_path / "out", "--max-tokens", "1", "--json").stdout)
    assert answer["model"] == "mine"


@pytest.mark.parametrize("source", ["absent", "checkpoint"])
def test_what_is_no_checkpoint_is_one_line(hearsee, tmp_path, source):
    (tmp_path / "checkpoint").mkdir()
    result = hearsee("convert", tmp_path / source, tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert source in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_types_on_the_command_line_are_the_converter_s():
    assert set(TYPES) == set(CONVERSION_TYPES)


def test_doctor_reports_every_subject_and_the_damaged_model(hearsee, copy):
    hearsee("models", "install", copy)
    findings = json.loads(hearsee("doctor", "--json").stdout)["findings"]
    assert {"program", "libraries", "device", "model", "microphone", "terminal", "network"} <= {
        finding["subject"] for finding in findings
    }
    assert any("tiny" in finding["detail"] and finding["works"] for finding in findings)


def test_doctor_notices_an_open_socket():
    import socket

    from app.cli.doctor import examine_network

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        findings = list(examine_network())
    assert not findings[0].works
    assert all(finding.works for finding in examine_network())


def test_a_bench_this_version_lacks_is_one_line(hearsee):
    from app.cli.bench import available

    for name in set(BENCHES) - set(available()):
        result = hearsee("bench", name)
        assert result.returncode == 1
        assert name in result.stderr
