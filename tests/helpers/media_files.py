"""Makes picture and sound files in memory, of every kind the decoders must know."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import av
import numpy as np
from PIL import Image as PillowImage

PCM, FLOAT = 1, 3


def tone(rate_hz: int, duration_s: float = 0.5, frequency_hz: float = 440.0) -> np.ndarray:
    """A sine at half of full scale, float64, shape (n,)."""
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * duration_s)) / rate_hz)


def wav_file(samples: np.ndarray, rate_hz: int, kind: str = "int16") -> bytes:
    """A WAV file of the given samples, float of shape (n,) or (n, channels).

    Args:
        samples: full scale is [-1, 1].
        rate_hz: sample rate in the header.
        kind: uint8, int16, int24, int32, float32 or float64.
    """
    table = samples[:, None] if samples.ndim == 1 else samples
    data = _pcm(table, kind)
    width = int(kind.lstrip("uintfloa")) // 8
    block = width * table.shape[1]
    tag = FLOAT if kind.startswith("float") else PCM
    fmt = struct.pack("<HHIIHH", tag, table.shape[1], rate_hz, rate_hz * block % 2**32, block, 8 * width)
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _pcm(table: np.ndarray, kind: str) -> bytes:
    if kind.startswith("float"):
        return table.astype(kind).tobytes()
    if kind == "uint8":
        return np.round(table * 127 + 128).astype(np.uint8).tobytes()
    if kind == "int24":
        return np.round(table * (2**23 - 1)).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    return np.round(table * (2 ** (int(kind[3:]) - 1) - 1)).astype(kind).tobytes()


def encoded_sound(container: str, codec: str, samples: np.ndarray, rate_hz: int, layout: str = "mono") -> bytes:
    """The samples, float of shape (n,), in every channel, encoded by FFmpeg."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate_hz, layout=layout)
        table = np.tile(samples.astype(np.float32), (len(stream.layout.channels), 1))
        frame = av.AudioFrame.from_ndarray(table, format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        converter = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate_hz)
        for converted in [*converter.resample(frame), *converter.resample(None), None]:
            output.mux(stream.encode(converted))
    return buffer.getvalue()


def video_with_sound(samples: np.ndarray, rate_hz: int) -> bytes:
    """A Matroska video of a grey picture with a sound track."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        picture: Any = output.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sound: Any = output.add_stream("pcm_s16le", rate=rate_hz, layout="mono")
        for _ in range(5):
            output.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")))
        output.mux(picture.encode(None))
        table = np.round(samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(table, format="s16", layout="mono")
        frame.sample_rate = rate_hz
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return buffer.getvalue()


def picture_file(picture: PillowImage.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """The picture, or uint8 pixels, in one of Pillow's formats."""
    image = PillowImage.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> np.ndarray:
    """uint8, shape (height, width, 3): red to the right, green downwards, a blue corner."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width)[None, :]
    pixels[:, :, 1] = np.linspace(0, 255, height)[:, None]
    pixels[: height // 2, : width // 2, 2] = 255
    return pixels


def png_of(raw_rows: bytes, width: int, height: int, depth: int, colour_type: int) -> bytes:
    """A PNG by hand: ``raw_rows`` are filter byte and samples of each row, all of them or fewer."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw_rows)) + chunk(b"IEND", b"")


def blank_png(width: int, height: int, n_rows: int | None = None) -> bytes:
    """One-bit black, some kilobytes whatever the size; with fewer rows than promised if asked."""
    return png_of(b"\0" * (1 + (width + 7) // 8) * (height if n_rows is None else n_rows), width, height, 1, 0)
