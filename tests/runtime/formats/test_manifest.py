"""model.yaml: written and read back, every wrong field named."""

import pytest
import yaml

from app.common.errors import ModelFormatError
from app.runtime.formats.manifest import MODES, FileEntry, Limits, Manifest, read_manifest

ROLES = ("language", "vision_adapter", "speech_adapter", "vision_encoder", "audio_encoder")


def manifest(**changes):
    files = {role: FileEntry(f"{role}.gguf", 7, "a" * 64, "q8_0") for role in ROLES}
    values = {
        "name": "Größe: 1",
        "source": "here",
        "revision": "1",
        "licence": "MIT",
        "modes": MODES,
        "languages": {"text": ("en", "no")},
        "limits": Limits(4096, 40),
        "quantization": "q8_0",
        "files": files,
        "system_message": "Be brief.\nBe kind.",
    }
    return Manifest(**values | changes)


def test_round_trip(tmp_path):
    (tmp_path / "model.yaml").write_text(manifest().to_yaml(), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest()


def test_modes_need_their_files(tmp_path):
    text_only = manifest(modes=("text",), files={"language": FileEntry("l.gguf", 7, "a" * 64, "")})
    (tmp_path / "model.yaml").write_text(text_only.to_yaml())
    assert read_manifest(tmp_path).roles == ("language",)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format is 2"),
        (("format",), "1", "format is missing or not a whole number"),
        (("name",), 5, "name is missing or not a text"),
        (("modes",), ["dance"], "modes must be some of"),
        (("modes",), [], "modes must be some of"),
        (("modes",), "text", "modes is not a list"),
        (("languages",), {"text": "en"}, "text is not a list"),
        (("limits",), None, "limits is missing"),
        (("limits", "audio_s"), 0, "audio_s has the impossible value 0"),
        (("files", "audio_encoder"), None, "audio_encoder is missing"),
        (("files", "poem"), {}, "unknown entries poem"),
        (("files", "language", "path"), "../../etc/passwd", "not a plain file name"),
        (("files", "language", "path"), "/etc/passwd", "not a plain file name"),
        (("files", "language", "path"), ".hidden", "not a plain file name"),
        (("files", "language", "bytes"), True, "bytes is missing or not a whole number"),
        (("files", "language", "sha256"), "A" * 64, "sha256 is not 64"),
        (("files", "language", "sha256"), 10**63, "sha256 is missing or not a text"),
    ],
)
def test_wrong_fields_are_named(tmp_path, path, value, message):
    values = yaml.safe_load(manifest().to_yaml())
    target = values
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelFormatError, match=message) as error:
        read_manifest(tmp_path)
    assert "model.yaml" in str(error.value)


def test_lacking_file_for_a_mode(tmp_path):
    values = yaml.safe_load(manifest().to_yaml())
    del values["files"]["audio_encoder"]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelFormatError, match="lacks audio_encoder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "- 1", "a: [", "x: !!python/object/apply:os.system [ls]", "\x00", "[" * 5000, "a: &a [*a]"]
)
def test_anything_else_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ModelFormatError) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)


def test_no_manifest_and_a_huge_one(tmp_path):
    with pytest.raises(ModelFormatError, match="is not a model directory"):
        read_manifest(tmp_path)
    (tmp_path / "model.yaml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(ModelFormatError, match="too large"):
        read_manifest(tmp_path)
