"""The catalogue of known models."""

from pathlib import Path

import pytest
import yaml

from app.common.errors import ModelFormatError
from app.common.paths import bundled_models_dir
from app.runtime.formats.catalog import CATALOG_FILE, read_catalog
from app.runtime.formats.manifest import MODES, FileEntry, Limits, Manifest

OTHER = {
    "name": "large",
    "about": "Large.",
    "source": "https://example.org",
    "licence": "MIT",
    "capabilities": ["text", "vision"],
    "bytes": {"q8_0": 10},
}


def write(folder, *models, **changes):
    (folder / CATALOG_FILE).write_text(yaml.safe_dump({"format": 1, "models": list(models)} | changes))
    return folder


def add_model(folder, name):
    files = {"language": FileEntry("language.gguf", 7, "a" * 64, "q8_0")}
    manifest = Manifest("Small", "ours", "", "MIT", ("text",), {}, Limits(10, 10), "q8_0", files)
    (folder / name).mkdir()
    (folder / name / "model.yaml").write_text(manifest.to_yaml())
    return manifest


def test_our_own_catalogue():
    entries = {entry.name: entry for entry in read_catalog(bundled_models_dir())}
    full = entries["phi-4-multimodal"]
    assert (full.capabilities, full.licence, full.manifest) == (MODES, "MIT", None)
    assert full.n_bytes["q4_k_m"] < full.n_bytes["q8_0"]
    bundled = {path.parent.name for path in bundled_models_dir().glob("*/model.yaml")}
    assert {entry.name for entry in entries.values() if entry.manifest} == bundled


def test_bundled_models_are_described_by_their_manifest(tmp_path):
    manifest = add_model(tmp_path, "small")
    entries = read_catalog(write(tmp_path, {"bundled": "small", "about": "Small."}, OTHER))
    assert [entry.name for entry in entries] == ["small", "large"]
    assert (entries[0].manifest, entries[0].n_bytes, entries[0].capabilities) == (manifest, {"q8_0": 7}, ("text",))
    assert (entries[1].manifest, entries[1].n_bytes) == (None, {"q8_0": 10})


def test_a_bundled_model_that_was_left_out_is_not_listed(tmp_path):
    assert read_catalog(write(tmp_path, {"bundled": "absent", "about": ""})) == ()


@pytest.mark.parametrize(
    "models",
    [
        [{"name": "x"}],
        ["x"],
        [None],
        [OTHER | {"capabilities": ["dance"]}],
        [OTHER | {"bytes": 7}],
        [{"bundled": "../small", "about": ""}],
        [{"bundled": 7, "about": ""}],
    ],
)
def test_malformed_entries(tmp_path, models):
    with pytest.raises(ModelFormatError, match="entry is malformed"):
        read_catalog(write(tmp_path, *models))


def test_malformed_catalogues(tmp_path):
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_catalog(tmp_path)
    with pytest.raises(ModelFormatError, match="format 1"):
        read_catalog(write(tmp_path, format=2))
    with pytest.raises(ModelFormatError, match="format 1"):
        read_catalog(write(tmp_path, models=3))
    Path(tmp_path / CATALOG_FILE).write_text("[" * 4000)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_catalog(tmp_path)
