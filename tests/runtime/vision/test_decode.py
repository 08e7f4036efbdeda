from __future__ import annotations

import io
import os
from contextlib import suppress

import numpy as np
import pytest
from helpers.media_files import blank_png, gradient, picture_file, png_of, tone, wav_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import features

from app.common.errors import MediaError
from app.runtime.vision import decode
from app.runtime.vision.decode import load_image

PICTURE = gradient(40, 30)
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("PPM", {}), ("QOI", {})]
LOSSY = [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {}), ("JPEG2000", {})]
if features.check("avif"):
    LOSSY.append(("AVIF", {"quality": 95}))


@pytest.mark.parametrize(("kind", "options"), LOSSLESS, ids=lambda value: str(value))
def test_lossless_formats_arrive_exactly(kind, options, tmp_path):
    path = tmp_path / "misleading.wav"
    path.write_bytes(picture_file(PICTURE, kind, **options))
    image = load_image(path)
    assert image.name == "misleading.wav"
    assert image.pixels.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels, PICTURE)


@pytest.mark.parametrize(("kind", "options"), LOSSY, ids=lambda value: str(value))
def test_lossy_formats_arrive_nearly(kind, options):
    difference = load_image(picture_file(PICTURE, kind, **options)).pixels.astype(int) - PICTURE
    assert np.abs(difference).mean() < 12


def test_jpeg_is_decoded_as_pillow_does():
    data = picture_file(PICTURE, "JPEG", quality=70)
    np.testing.assert_array_equal(load_image(data).pixels, np.asarray(PillowImage.open(io.BytesIO(data))))


def test_transparency_is_dropped_not_composited():
    rgba = np.dstack([PICTURE, np.zeros((30, 40), np.uint8)])
    np.testing.assert_array_equal(load_image(picture_file(rgba, "PNG")).pixels, PICTURE)


def test_grey_one_bit_and_palette_pictures():
    grey = PICTURE[:, :, 0]
    np.testing.assert_array_equal(load_image(picture_file(grey, "PNG")).pixels, np.dstack([grey] * 3))
    bits = PillowImage.fromarray(grey).convert("1")
    assert set(np.unique(load_image(picture_file(bits, "PNG")).pixels)) == {0, 255}
    palette = PillowImage.fromarray(PICTURE).quantize(16)
    np.testing.assert_array_equal(load_image(picture_file(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_pictures(kind):
    data = picture_file(PillowImage.fromarray(gradient(64, 64)).convert("CMYK"), kind)
    difference = load_image(data).pixels.astype(int) - gradient(64, 64)
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind):
    levels = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    pixels = load_image(picture_file(PillowImage.fromarray(levels), kind)).pixels
    np.testing.assert_array_equal(pixels[:, :, 1], levels >> 8)


def test_sixteen_bit_colour_is_scaled():
    levels = (PICTURE.astype(np.uint16) * 256 + 17).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    np.testing.assert_array_equal(load_image(png_of(rows, 40, 30, 16, 2)).pixels, PICTURE)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_pictures_are_scaled_by_their_range(top):
    values = np.linspace(0, top, 1200, dtype=np.float32).reshape(30, 40)
    pixels = load_image(picture_file(PillowImage.fromarray(values), "TIFF")).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_float_pictures_of_any_range_are_stretched():
    values = np.array([[-3e38, 3e38]], np.float32)
    pixels = load_image(picture_file(PillowImage.fromarray(values), "TIFF")).pixels
    assert pixels[0, :, 0].tolist() == [0, 255]


def test_float_pictures_with_nan_are_refused():
    values = np.full((30, 40), np.nan, np.float32)
    with pytest.raises(MediaError, match="no numbers"):
        load_image(picture_file(PillowImage.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation):
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # PIL.Image.Transpose that stores it so
    stored = PillowImage.fromarray(PICTURE)
    if undo is not None:
        stored = stored.transpose(PillowImage.Transpose(undo))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(load_image(picture_file(stored, kind, exif=exif)).pixels, PICTURE)


def test_unreadable_orientation_leaves_the_picture_as_it_is():
    data = picture_file(PICTURE, "PNG", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff junk")
    np.testing.assert_array_equal(load_image(data).pixels, PICTURE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [PillowImage.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    data = picture_file(frames[0], kind, save_all=True, append_images=frames[1:])
    pixels = load_image(data).pixels
    assert pixels[8, 8, 0] > 240
    assert pixels[8, 8, 2] < 15


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 20000), (20000, 1)])
def test_extreme_shapes_are_decoded(width, height):
    pixels = np.full((height, width, 3), 7, np.uint8)
    np.testing.assert_array_equal(load_image(picture_file(pixels, "PNG")).pixels, pixels)


def test_a_hundred_megapixels_are_decoded():
    assert load_image(blank_png(12000, 9000)).pixels.shape == (9000, 12000, 3)


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (2_000_000_000, 2_000_000_000)])
def test_pictures_beyond_the_limit_are_refused_before_decoding(width, height):
    with pytest.raises(MediaError, match="more than 256 megapixels"):
        load_image(png_of(b"", width, height, 1, 0))


def test_jpegs_with_thousands_of_scans_are_refused():
    data = picture_file(PICTURE, "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    with pytest.raises(MediaError, match="scans"):
        load_image(data[:start] + data[start:-2] * 200 + data[-2:])


def test_a_video_appended_to_a_picture_is_no_bomb():
    data = picture_file(PICTURE, "JPEG")
    video = np.random.default_rng(0).bytes(20_000_000)
    assert video.count(b"\xff\xda") > 200
    np.testing.assert_array_equal(load_image(data + video).pixels, load_image(data).pixels)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><svg/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (HEIC, "HEIC"),
        (wav_file(tone(16000), 16000), "no picture"),
        (b"\x89PNG\r\n\x1a\n", "no picture|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no picture"),
        *((picture_file(gradient(200, 150), kind, **options)[:-60], "damaged") for kind, options in LOSSLESS[:2]),
        (picture_file(gradient(200, 150), "JPEG")[:2000], "damaged"),
        (picture_file(gradient(200, 150), "GIF")[:2000], "damaged"),
        (picture_file(gradient(200, 150), "WEBP")[:-100], "damaged|no picture"),
    ],
)
def test_unusable_files_say_so(data, message):
    with pytest.raises(MediaError, match=message) as caught:
        load_image(data)
    assert "\n" not in str(caught.value)


def test_damaged_tiff_files_leave_stderr_alone(capfd):
    data = picture_file(gradient(200, 150), "TIFF", compression="tiff_deflate")
    with pytest.raises(MediaError, match="damaged"):
        load_image(data[:600] + b"\xff" * 40 + data[640:])
    assert capfd.readouterr().err == ""


def test_missing_and_unreadable_paths(tmp_path):
    with pytest.raises(MediaError, match=r"absent\.png cannot be read: No such file"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(MediaError, match="is a directory"):
        load_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="not a regular file"):
        load_image(tmp_path / "pipe")


def test_equal_pixels_have_equal_hashes():
    png, bmp = (load_image(picture_file(PICTURE, kind)) for kind in ("PNG", "BMP"))
    assert png.content_hash == bmp.content_hash
    assert png.content_hash != load_image(picture_file(PICTURE[::-1].copy(), "PNG")).content_hash


SEEDS = [picture_file(PICTURE, kind, **options) for kind, options in LOSSLESS + LOSSY]
SEEDS.append(picture_file(PICTURE, "JPEG", progressive=True))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    length=st.floats(0.02, 1.0),
)
def test_damaged_files_give_a_picture_or_a_media_error(seed, edits, length):
    data = bytearray(seed[: int(len(seed) * length)])
    for place, patch in edits:
        start = int(place**3 * len(data))  # headers suffer most
        data[start : start + len(patch)] = patch
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decode, "MAX_PIXELS", 4_000_000)  # a damaged header may ask for much: keep the test fast
        with suppress(MediaError):
            image = load_image(bytes(data))
            assert image.pixels.ndim == 3
            assert image.pixels.shape[2] == 3
