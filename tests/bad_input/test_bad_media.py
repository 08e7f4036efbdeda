"""Every kind of bad picture and sound: one clear line and exit 1, or an answer; never a crash, a hang or silence."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from helpers.media_files import blank_png, encoded_sound, gradient, picture_file, tone, video_with_sound, wav_file
from PIL import Image as PillowImage

PICTURE = gradient(90, 60)


def exif(orientation: int) -> PillowImage.Exif:
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    return tags


GOOD_PICTURES = {
    "one-pixel": picture_file(gradient(1, 1), "PNG"),
    "large": blank_png(10100, 10000),
    "cmyk": picture_file(PillowImage.fromarray(PICTURE).convert("CMYK"), "JPEG"),
    "sixteen-bit": picture_file(PillowImage.fromarray(PICTURE[:, :, 0].astype(np.uint16) << 8), "PNG"),
    "alpha": picture_file(np.dstack([PICTURE, PICTURE[:, :, 0]]), "PNG"),
    "palette": picture_file(PillowImage.fromarray(PICTURE).quantize(8), "GIF"),
    "rotated": picture_file(PICTURE, "JPEG", exif=exif(6)),
    "animated": picture_file(
        PillowImage.fromarray(PICTURE), "WEBP", save_all=True, append_images=[PillowImage.new("RGB", (90, 60))]
    ),
    "thin": picture_file(gradient(12, 400), "BMP"),
}
BAD_PICTURES = {
    "empty": (b"", "empty (0 bytes)"),
    "elongated": (picture_file(np.zeros((20000, 1, 3), np.uint8), "PNG"), "1x20000"),
    "wide": (picture_file(np.zeros((1, 20000, 3), np.uint8), "PNG"), "20000x1"),
    "huge": (blank_png(20000, 20000, 10), "256 megapixels"),
    "truncated-png": (picture_file(PICTURE, "PNG")[:-200], "damaged"),
    "truncated-jpeg": (picture_file(gradient(300, 300), "JPEG")[:1500], "damaged"),
    "header-only": (picture_file(PICTURE, "JPEG")[:30], ""),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "text": (b"this is no picture\n", "no picture"),
    "sound": (wav_file(tone(16000), 16000), "no picture"),
    "noise": (np.random.default_rng(0).bytes(5000), "no picture"),
}
GOOD_SOUNDS = {
    **{f"{rate}-hz": wav_file(tone(rate), rate) for rate in (4000, 8000, 11025, 22050, 44100, 96000)},
    "surround": wav_file(np.tile(tone(48000)[:, None], (1, 6)), 48000),
    "float64": wav_file(tone(16000), 16000, "float64"),
    "24-bit": wav_file(tone(16000), 16000, "int24"),
    "one-window": wav_file(tone(16000, 0.025), 16000),
    "mp3": encoded_sound("mp3", "libmp3lame", tone(44100), 44100),
    "m4a": encoded_sound("mp4", "aac", tone(44100), 44100),
    "ogg": encoded_sound("ogg", "libopus", tone(48000), 48000),
    "webm": encoded_sound("webm", "libopus", tone(48000), 48000),
    "video": video_with_sound(tone(16000), 16000),
    "silence": wav_file(np.zeros(16000), 16000),
}
BAD_SOUNDS = {
    "empty": (b"", "empty (0 bytes)"),
    "no-samples": (wav_file(np.zeros(0), 16000), "0 samples"),
    "10-ms": (wav_file(tone(16000, 0.01), 16000), "10 ms"),
    "nan": (wav_file(np.full(16000, np.nan), 16000, "float32"), "no numbers"),
    "infinite": (wav_file(np.full(16000, np.inf), 16000, "float64"), "no numbers"),
    "truncated": (wav_file(tone(16000), 16000)[:1000], "cut off"),
    "half-hour-and-more": (wav_file(np.zeros(8000 * 1801), 8000, "uint8"), "longer than 30 minutes"),
    "mad-rate": (wav_file(tone(16000), 2_000_000_000), ""),
    "mad-channels": (wav_file(np.zeros((4, 3000)), 16000), ""),
    "text": (b"this is no sound\n", "no sound file"),
    "picture": (picture_file(PICTURE, "PNG"), "no sound file"),
    "playlist": (b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n", "no sound file"),
    "noise": (np.random.default_rng(0).bytes(5000), "no sound file"),
}


@pytest.fixture
def path(tmp_path):
    """A name that says nothing of the content."""
    return tmp_path / "file.bin"


@pytest.mark.parametrize("data", GOOD_PICTURES.values(), ids=GOOD_PICTURES)
def test_unusual_pictures_are_answered(data, path, ask):
    path.write_bytes(data)
    outcome = ask("what is this", "--image", path)
    assert outcome.answered, outcome


@pytest.mark.parametrize(("data", "words"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures_are_refused(data, words, path, ask):
    path.write_bytes(data)
    outcome = ask("what is this", "--image", path)
    assert outcome.refused(words, "file.bin"), outcome


@pytest.mark.parametrize("data", GOOD_SOUNDS.values(), ids=GOOD_SOUNDS)
def test_unusual_sounds_are_answered(data, path, ask):
    path.write_bytes(data)
    outcome = ask("--audio", path)
    assert outcome.answered, outcome


@pytest.mark.parametrize(("data", "words"), BAD_SOUNDS.values(), ids=BAD_SOUNDS)
def test_bad_sounds_are_refused(data, words, path, ask):
    path.write_bytes(data)
    outcome = ask("--audio", path)
    assert outcome.refused(words, "file.bin"), outcome


@pytest.mark.parametrize("option", ["--image", "--audio"])
def test_paths_that_are_no_files_are_refused(option, tmp_path, ask):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "absent", "No such file"),
        (tmp_path, "is a directory"),
        (tmp_path / "pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / ("long" * 100), "cannot be read"),
        (tmp_path / "two\nlines", "No such file"),
        (os.fsencode(tmp_path) + b"/\xff\xfe", "No such file"),
    ):
        outcome = ask("what is this", option, path)
        assert outcome.refused(words), (path, outcome)


def test_a_turned_picture_gives_the_answer_of_the_upright_one(tmp_path, ask):
    """With an orientation that swaps the sides: the number of image tokens would differ too."""
    stored = np.ascontiguousarray(np.rot90(PICTURE, 1))
    (tmp_path / "upright.png").write_bytes(picture_file(PICTURE, "PNG"))
    (tmp_path / "turned.png").write_bytes(picture_file(stored, "PNG", exif=exif(6)))
    upright, turned = (ask("what is this", "--json", "--image", tmp_path / f"{n}.png") for n in ("upright", "turned"))
    assert upright.answered, upright
    assert turned.answered, turned
    a, b = json.loads(upright.stdout), json.loads(turned.stdout)
    assert (a["text"], a["image_tokens"], a["prompt_tokens"]) == (b["text"], b["image_tokens"], b["prompt_tokens"])


def test_the_command_as_a_process_behaves_alike(path, hearsee_process, pristine_model):
    path.write_bytes(b"no picture")
    outcome = hearsee_process("ask", "what is this", "--image", path, "--model", pristine_model)
    assert outcome.refused("no picture", "file.bin"), outcome
