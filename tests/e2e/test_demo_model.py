"""The bundled demo model does the main job: real answers to the bundled samples and to a user's own files."""

from __future__ import annotations

import json
import re

import pytest

from app.cli.samples import load_samples

SAMPLES = load_samples()


def test_hearsee_alone_answers_three_samples_where_nobody_can_type(hearsee):
    result = hearsee()
    assert result.returncode == 0
    answers = result.stdout.strip().splitlines()
    assert len(answers) == 3
    for sample, answer in zip(SAMPLES, answers, strict=False):
        assert answer.strip()
        assert sample.about in result.stderr
    assert len(re.findall(r"\w+ · first token after \d+ ms", result.stderr)) == 3
    assert any(sample.audio and sample.image for sample in SAMPLES[:3])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.about)
def test_every_sample_is_answered(hearsee, sample):
    media = [
        word for kind in ("image", "audio") if getattr(sample, kind) for word in (f"--{kind}", getattr(sample, kind))
    ]
    answer = json.loads(hearsee("ask", *([sample.text] if sample.text else []), *media, "--json").stdout)
    assert answer["finish_reason"] == "stop"
    assert answer["model"] == "hearsee-demo"
