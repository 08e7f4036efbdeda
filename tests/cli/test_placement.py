from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from app.cli import placement
from app.common.errors import ConfigError


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Two bundled models and an installed one that has the name of a bundled one."""
    bundled, installed = tmp_path / "bundled", tmp_path / "installed"
    monkeypatch.setattr(placement, "bundled_models_dir", lambda: bundled)
    monkeypatch.setattr(placement, "installed_models_dir", lambda: installed)
    for folder, stated in ((bundled / "demo", "hearsee-demo"), (bundled / "other", "x"), (installed / "other", "y")):
        folder.mkdir(parents=True)
        (folder / "model.yaml").write_text(f"format: 1\nname: '{stated}'\n")
    return tmp_path


def test_by_folder_by_stated_name_and_by_directory(models):
    assert placement.find_model("demo") == models / "bundled" / "demo"
    assert placement.find_model("hearsee-demo") == models / "bundled" / "demo"
    assert placement.find_model(str(models / "bundled" / "other")) == models / "bundled" / "other"


def test_an_installed_model_wins(models):
    assert placement.find_model("other") == models / "installed" / "other"


def test_an_unknown_name_lists_the_known_ones(models):
    with pytest.raises(ConfigError, match=r"no model .nothing.*other, demo"):
        placement.find_model("nothing")


def test_a_folder_without_a_manifest_is_said_to_be_none(models):
    with pytest.raises(ConfigError, match="not a model directory"):
        placement.find_model(str(models))


def test_the_command_line_wins_over_the_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HEARSEE_MODEL", "from-environment")
    assert placement.settings_of(Namespace()).model == "from-environment"
    settings = placement.settings_of(Namespace(model="typed", gpu_layers=None, threads=2))
    assert (settings.model, settings.gpu_layers, settings.threads) == ("typed", None, 2)


def test_without_any_model_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(placement, "bundled_models_dir", lambda: Path(tmp_path / "a"))
    monkeypatch.setattr(placement, "installed_models_dir", lambda: Path(tmp_path / "b"))
    with pytest.raises(ConfigError, match="none"):
        placement.find_model("demo")
