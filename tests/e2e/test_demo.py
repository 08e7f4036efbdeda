"""The bundled demo model does the main job: real answers to the bundled samples and to a user's own files."""

from __future__ import annotations

import json
import re
import wave

import numpy as np
import pytest
from PIL import Image

from app.cli.samples import load_samples

SAMPLES = load_samples()


def test_hearsee_alone_answers_three_samples_where_nobody_can_type(hearsee):
    result = hearsee()
    assert result.returncode == 0
    answers = result.stdout.strip().splitlines()
    assert len(answers) == 3
    for sample, answer in zip(SAMPLES, answers, strict=False):
        assert sample.expected.lower() in answer.lower()
        assert sample.about in result.stderr
    assert len(re.findall(r"\w+ · first token after \d+ ms", result.stderr)) == 3
    assert any(sample.audio and sample.image for sample in SAMPLES[:3])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.about)
def test_every_sample_is_answered_right(hearsee, sample):
    media = [
        word for kind in ("image", "audio") if getattr(sample, kind) for word in (f"--{kind}", getattr(sample, kind))
    ]
    answer = json.loads(hearsee("ask", *([sample.text] if sample.text else []), *media, "--json").stdout)
    assert sample.expected.lower() in answer["text"].lower()
    assert answer["finish_reason"] == "stop"
    assert answer["model"] == "hearsee-demo"


def test_the_media_matter(hearsee, tmp_path):
    """The same spoken question about another picture gets another answer; a silent recording gets none of them."""
    sample = next(sample for sample in SAMPLES if sample.audio and sample.image)
    blank = tmp_path / "blank.png"
    Image.new("RGB", Image.open(sample.image).size, "white").save(blank)
    silence = tmp_path / "silence.wav"
    with wave.open(str(silence), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.zeros(16000, "<i2").tobytes())
    right = hearsee("ask", "--image", sample.image, "--audio", sample.audio).stdout
    assert hearsee("ask", "--image", blank, "--audio", sample.audio).stdout != right
    assert hearsee("ask", "--image", sample.image, "--audio", silence).stdout != right
