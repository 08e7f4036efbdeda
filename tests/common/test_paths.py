from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.common import paths


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG specification is for Linux")
@pytest.mark.parametrize(
    ("function", "variable", "default"),
    [
        (paths.data_dir, "XDG_DATA_HOME", ".local/share/hearsee"),
        (paths.config_dir, "XDG_CONFIG_HOME", ".config/hearsee"),
        (paths.cache_dir, "XDG_CACHE_HOME", ".cache/hearsee"),
        (paths.state_dir, "XDG_STATE_HOME", ".local/state/hearsee"),
    ],
)
def test_linux_follows_xdg(monkeypatch, function, variable, default):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv(variable, "/elsewhere")
    assert function() == Path("/elsewhere/hearsee")
    for unusable in ("", "relative/path"):
        monkeypatch.setenv(variable, unusable)
        assert function() == Path("/home/someone") / default


def test_the_root_holds_the_package():
    assert (paths.root_dir() / "app" / "common" / "paths.py").is_file()
