"""Record the reference that ships with the demo model: ``python -m training.reference EXPORT HELD_OUT OUT``.

Takes some held-out cases of every mode, turns their sounds into FLAC (decoders of Opus differ by more than what is
to be measured), and records what EXPORT, the trained Hugging Face folder, says to them in float32 PyTorch. OUT then
holds ``suite.yaml`` with its media and ``recording.npz`` for ``hearsee validate compare``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import soundfile
import yaml

from app.validation.record import record
from app.validation.recording import RecordingWriter, read_recording
from app.validation.suite import SUITE_NAME, Case, load_suite

CASES_PER_MODE = 24
RECORDING = "recording.npz"


def main() -> int:
    """Write the reference of a trained model."""
    export, held_out, out = map(Path, sys.argv[1:4])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_suite(held_out, out)
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, RECORDING)
        print(f"{record(export, out, full)} cases recorded")
        _without_embeddings(full, out / RECORDING)
    return 0


def write_suite(held_out: Path, out: Path) -> None:
    """Choose cases, the same number of every mode, and bring their media along."""
    document = yaml.safe_load((held_out / SUITE_NAME).read_text(encoding="utf-8"))
    by_id = {case["id"]: case for case in document["cases"]}
    cases = [_with_media(by_id[name], held_out, out) for name in _spread(load_suite(held_out))]
    text = yaml.safe_dump({"cases": cases}, sort_keys=False, allow_unicode=True, width=110)
    (out / SUITE_NAME).write_text(text, encoding="utf-8")


def _spread(cases: list[Case]) -> list[str]:
    """Ids of evenly spread cases, modes taking turns so that every case changes it."""
    by_mode: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        by_mode[case.mode].append(case.id)
    even = [ids[:: max(1, len(ids) // CASES_PER_MODE)][:CASES_PER_MODE] for ids in by_mode.values()]
    turns = [[ids[turn] for ids in even if turn < len(ids)] for turn in range(CASES_PER_MODE)]
    return [name for turn in turns for name in turn]


def _with_media(case: dict[str, Any], held_out: Path, out: Path) -> dict[str, Any]:
    messages = [
        {"role": message["role"], "parts": [_bring(part, held_out, out) for part in message["parts"]]}
        for message in case["messages"]
    ]
    return {"id": case["id"], "messages": messages, "answer": case["answer"]}


def _bring(part: dict[str, str], held_out: Path, out: Path) -> dict[str, str]:
    if "image" in part:
        shutil.copy(held_out / part["image"], out / part["image"])
    if "audio" not in part:
        return part
    samples, rate_hz = soundfile.read(held_out / part["audio"], dtype="int16")
    name = Path(part["audio"]).with_suffix(".flac").name
    soundfile.write(out / name, samples, rate_hz, subtype="PCM_16")
    return {"audio": name}


def _without_embeddings(full: Path, small: Path) -> None:
    with RecordingWriter(small) as writer:
        for case, arrays in read_recording(full).items():
            writer.add(case, {name: arrays[name] for name in ("tokens", "logits")})


if __name__ == "__main__":
    sys.exit(main())
