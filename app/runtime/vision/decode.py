"""Picture files to upright RGB pixels, by content and whatever the file is called.

Pillow decodes. As the reference does, transparency is dropped rather than laid over a colour and
colour profiles are not applied; other than it, pictures are turned upright by their EXIF
orientation, and 16-bit grey is scaled rather than clipped.
"""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError, _imaging

from app.common.errors import MediaError
from app.runtime.media_source import Source, open_source, source_name
from app.runtime.messages import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = logging.getLogger("app.runtime.vision")

MAX_PIXELS = 256_000_000  # 1.8 GB at most while decoding; the largest phone cameras have 200 megapixels
_MAX_JPEG_SCANS = 100  # encoders write about ten; each may cost as much as a whole picture
# Marker, length and number of components: the video that phones append to a picture must not look like scans.
_SCAN_HEADER = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# Formats with a reliable signature, whose decoders start no other program (as EPS does).
_FORMATS = (
    "AVIF", "BMP", "DDS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "QOI", "SGI", "TIFF", "WEBP",
)  # fmt: skip
_HEAD_BYTES = 1024


def load_image(source: Source) -> Image:
    """Decode a picture; of an animation the first frame.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        MediaError: the file is missing, no picture, damaged, or larger than MAX_PIXELS.
    """
    name = source_name(source)
    with open_source(source) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        try:
            return Image.from_pixels(_decode(file, name), name)
        except UnidentifiedImageError as error:
            raise MediaError(f"{name} {_what_instead(head)}") from error
        except PillowImage.DecompressionBombError as error:
            raise MediaError(_too_large(name)) from error
        except MemoryError as error:
            raise MediaError(f"{name} does not fit into memory; make the picture smaller") from error
        except MediaError:
            raise
        except Exception as error:  # decoders raise whatever their parsers trip over
            raise MediaError(f"{name} is damaged and cannot be decoded ({_reason(error)}); save it again") from error


def _decode(file: BinaryIO, name: str) -> NDArray[np.uint8]:
    # Pillow refuses twice this figure, also for pictures inside pictures.
    PillowImage.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with PillowImage.open(file, formats=_formats()) as image:
            _check_size(image, name)
            _check_scans(image, file, name)
            image.load()
            return _rgb_pixels(_upright(image), name)


@cache
def _formats() -> tuple[str, ...]:
    """Those of _FORMATS this Pillow was built with."""
    PillowImage.init()
    _silence_libtiff()
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr
    return tuple(name for name in _FORMATS if name in PillowImage.OPEN)


def _silence_libtiff() -> None:
    """Keep libtiff from writing about damaged files to stderr by itself: Pillow raises anyway."""
    imaging = ctypes.CDLL(_imaging.__file__)
    for setter in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with suppress(AttributeError):  # linked in, out of reach
            getattr(imaging, setter)(None)


def _check_size(image: PillowImage.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise MediaError(_too_large(name))
    if not image.width or not image.height:
        raise MediaError(f"{name} has no pixels ({image.width}x{image.height})")


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS // 1_000_000} megapixels; scale it down first"


def _check_scans(image: PillowImage.Image, file: BinaryIO, name: str) -> None:
    """Refuse progressive JPEGs made to be slow: a small file can ask for thousands of passes."""
    if image.format not in ("JPEG", "MPO"):
        return
    position = file.tell()
    file.seek(0)
    n_scans = len(_SCAN_HEADER.findall(file.read()))
    file.seek(position)
    if n_scans > _MAX_JPEG_SCANS:
        raise MediaError(f"{name} is a JPEG with {n_scans} scans, far more than pictures have; save it again")


def _upright(image: PillowImage.Image) -> PillowImage.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        _log.debug("orientation of a picture is unreadable: %s", error)
        return image


def _rgb_pixels(image: PillowImage.Image, name: str) -> NDArray[np.uint8]:
    """uint8, shape (height, width, 3)."""
    if image.mode.startswith("I;16"):
        # The high byte, as Pillow itself takes it of 16-bit colour.
        return _grey_to_rgb((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        return _grey_to_rgb(_scaled_bytes(np.asarray(image), name))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


def _grey_to_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _scaled_bytes(values: NDArray[np.int32] | NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """Grey of unknown scale: integers count to 65535, floats to 1 or 255; what exceeds that sets its own range."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise MediaError(f"{name} has pixels that are no numbers; save it as PNG or JPEG")
    tops = (65535.0,) if values.dtype == np.int32 else (1.0, 255.0, 65535.0)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        return _stretched(values, low, (high - low) or 1.0)
    return _stretched(values, 0.0, top)


def _stretched(values: NDArray[np.int32] | NDArray[np.float32], low: float, span: float) -> NDArray[np.uint8]:
    return ((values.astype(np.float64) - low) * (255.0 / span) + 0.5).astype(np.uint8)


def _what_instead(head: bytes) -> str:
    """What a file that is no picture seems to be, and what to do."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype", b"<!--")) and b"<svg" in text):
        return "is an SVG drawing; export it as PNG first"
    if head.startswith(b"%PDF"):
        return "is a PDF document; export the page as PNG first"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "is a HEIC picture; export it as JPEG or PNG first"
    return (
        "is no picture in a known format, or its header is damaged; give a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF file"
    )


def _reason(error: Exception) -> str:
    """The decoder's words on one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
