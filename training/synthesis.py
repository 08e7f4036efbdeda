"""Speech synthesis by three free engines; which voices train and which are held out.

espeak-ng (formant synthesis, about 60 voice variants in ten accents) and flite (diphone and cluster-unit voices of real
speakers) train. Festival is the engine left out: its ked diphone speaker occurs nowhere else, and its HTS voice is the
only statistical one. Festival's kal is not used: flite's kal is the same recording.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import wave
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import resample_poly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

RATE = 16000
ACCENTS = [
    "en-us",
    "en-us",
    "en-us",
    "en-gb",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
]
VARIANTS = [
    "",
    "",
    "",
    "f1",
    "f2",
    "f3",
    "f5",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m8",
    "adam",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "antonio",
    "aunty",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "Denis",
    "Diogo",
    "ed",
    "edward",
    "Gene",
    "Gustave",
    "Henrique",
    "Hugo",
    "iven",
    "iven2",
    "Jacky",
    "john",
    "Lee",
    "Marcelo",
    "Mario",
    "Michael",
    "Mike",
    "miguel",
    "Nguyen",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "steph2",
    "travis",
    "victor",
    "zac",
    "klatt",
    "klatt2",
    "klatt3",
    "anika",
    "norbert",
]
HELD_ACCENTS = ["en-us", "en-gb", "en-gb-x-rp"]
HELD_VARIANTS = ["f4", "m7", "Annie", "max", "linda", "Marco", "steph3", "iven3", "edward2", "michel"]
FLITE = ["kal", "kal16", "awb", "awb", "slt", "slt"]
HELD_FLITE = ["rms"]
FESTIVAL = ["ked_diphone", "cmu_us_slt_arctic_hts"]


def _read_wav(data: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
        raw = data[44:] if file.getnframes() > 1 << 28 else file.readframes(file.getnframes())
    samples = np.frombuffer(raw[: len(raw) // 2 * 2], np.int16).astype(np.float32) / 32768
    divisor = gcd(rate, RATE)
    return resample_poly(samples, RATE // divisor, rate // divisor).astype(np.float32) if rate != RATE else samples


def trim(samples: np.ndarray) -> np.ndarray:
    """The clip without leading and trailing silence, peak 0.5."""
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    if peak < 1e-3:
        raise ValueError("silent clip")
    loud = np.nonzero(np.abs(samples) > 0.02 * peak)[0]
    return samples[max(0, loud[0] - 320) : loud[-1] + 640] * (0.5 / peak)


def espeak(rng: Random, text: str, held: bool = False) -> tuple[str, np.ndarray]:
    """The text by a random espeak-ng voice: (voice name, samples)."""
    accent = rng.choice(HELD_ACCENTS if held else ACCENTS)
    variant = rng.choice(HELD_VARIANTS if held else VARIANTS)
    voice = accent + ("+" + variant if variant else "")
    options = [
        "-v",
        voice,
        "-s",
        str(rng.randint(125, 200)),
        "-p",
        str(rng.randint(20, 80)),
        "-g",
        str(rng.choice([0, 0, 0, 1, 2])),
    ]
    done = subprocess.run(["espeak-ng", *options, "--stdout", text], capture_output=True, check=True)
    return "espeak-ng " + voice, trim(_read_wav(done.stdout))


def flite(rng: Random, text: str, held: bool = False) -> tuple[str, np.ndarray]:
    """The text by a random flite voice with random pace and pitch."""
    voice = rng.choice(HELD_FLITE if held else FLITE)
    stretch = rng.uniform(0.85, 1.25)
    mean = {"slt": 170, "rms": 95, "awb": 125, "kal": 105, "kal16": 105}[voice] * rng.uniform(0.8, 1.3)
    with tempfile.NamedTemporaryFile(suffix=".wav", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
        settings = ["--setf", f"duration_stretch={stretch:.2f}", "--setf", f"int_f0_target_mean={mean:.0f}"]
        subprocess.run(
            ["flite", "-voice", voice, *settings, "-t", text, "-o", file.name], check=True, capture_output=True
        )
        return "flite " + voice, trim(_read_wav(Path(file.name).read_bytes()))


def festival(texts: Sequence[str], voice: str) -> list[np.ndarray]:
    """All texts by one Festival voice, in one process."""
    with tempfile.TemporaryDirectory() as folder:
        script = [f"(voice_{voice})"]
        for index, text in enumerate(texts):
            script.append(f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{folder}/{index}.wav" \'riff)')
        path = Path(folder) / "all.scm"
        path.write_text("\n".join(script))
        subprocess.run(["festival", "-b", str(path)], check=True, capture_output=True)
        return [trim(_read_wav((Path(folder) / f"{index}.wav").read_bytes())) for index in range(len(texts))]


def train_voice(rng: Random, text: str) -> tuple[str, np.ndarray]:
    """The text by a random voice of the trained engines."""
    return flite(rng, text) if rng.random() < 0.45 else espeak(rng, text)
