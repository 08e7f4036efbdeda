from __future__ import annotations

import pytest

from app.cli.samples import load_samples
from app.common.errors import ConfigError


def test_a_list_is_read_with_its_files_beside_it(tmp_path):
    path = tmp_path / "samples.yaml"
    path.write_text(
        "samples:\n- {about: a question, image: a.png, text: 'what?', expected: red}\n- {about: b, audio: b.wav}\n"
    )
    first, second = load_samples(path)
    assert (first.about, first.image, first.audio, first.text) == ("a question", tmp_path / "a.png", None, "what?")
    assert (second.audio, second.text, second.expected) == (tmp_path / "b.wav", "", "")


@pytest.mark.parametrize("content", [None, "", "samples", "samples: [1]", "samples: [{text: x}]", "a: [", "other: []"])
def test_an_incomplete_installation_is_one_line(tmp_path, content):
    path = tmp_path / "samples.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="install Hearsee again"):
        load_samples(path)
