from __future__ import annotations

import pytest

from app.common.errors import ConfigError
from app.common.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    monkeypatch.delenv("HEARSEE_MODEL", raising=False)
    monkeypatch.delenv("HEARSEE_DEVICE", raising=False)


def test_without_a_file_the_defaults_hold(tmp_path):
    assert load_settings(tmp_path / "absent.yaml") == Settings()


def test_the_file_is_read(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("model: large\ngpu_layers: 0\nthreads: 3\n")
    assert load_settings(path) == Settings(model="large", gpu_layers=0, threads=3)


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    path = tmp_path / "settings.yaml"
    path.write_text("model: large\ndevice: cpu\n")
    monkeypatch.setenv("HEARSEE_MODEL", "other")
    assert load_settings(path) == Settings(model="other", device="cpu")


@pytest.mark.parametrize(
    "content",
    ["modle: x", "- a\n- b", "model: [1]", "device: 3", "gpu_layers: -1", "threads: 0", "threads: true", "a: [", "\0"],
)
def test_an_unusable_file_is_named_and_not_guessed_at(tmp_path, content):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_settings(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"model: \xff\xfe\xff")
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load_settings(path)
