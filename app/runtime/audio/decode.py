"""Sound files, and the sound tracks of videos, to mono samples; by content, whatever the file is called.

FFmpeg decodes, through PyAV, and never sees a path or a network: only the bytes of the one file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np

from app.common.errors import MediaError
from app.common.resample import Resampler
from app.runtime.audio.wav_header import check_wav_complete
from app.runtime.media_source import Source, open_source, source_name
from app.runtime.messages import Audio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import AudioFrame, AudioStream
    from av.container import InputContainer
    from numpy.typing import NDArray

MAX_DURATION_S = 1800.0
_RATES_HZ = (1000, 384_000)
_MAX_CHANNELS = 64
_MAX_AMPLITUDE = 1000.0  # times full scale; float files on the scale of 16-bit integers exceed it

# What FFmpeg may take the file for. No playlists (they name other files), no raw formats without
# a signature (any file would be one).
_CONTAINERS = (
    "wav,w64,aiff,au,caf,flac,mp3,aac,ogg,matroska,webm,mov,mp4,m4a,3gp,amr,ac3,eac3,dts,asf,avi,flv,mpegts,mpeg,ape,wv,tta,voc"
)  # fmt: skip
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none", "enable_drefs": "0"}

# Containers that state the exact length of the sound, so that a missing end can be noticed.
_EXACT_CONTAINERS = ("aiff", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "ape", "tta", "wv")
_MISSING_SHARE, _MISSING_S = 0.02, 0.25

# Full scale of FFmpeg's sample formats without the planar "p"; floats have 1.
_FULL_SCALES = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}


class _HiddenName:
    """The file without its name: FFmpeg would take the extension for a hint."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def load_audio(source: Source, rate_hz: int = 16000, *, max_duration_s: float = MAX_DURATION_S) -> Audio:
    """Decode the first sound track to mono (mean of the channels) at the model's rate.

    Sound at exactly half that rate stays there, for the narrow-band path; slower sound is raised
    to half the rate, everything else is brought to the full rate.

    Args:
        source: a path, or the bytes of a file.
        rate_hz: the model's sample rate.
        max_duration_s: longer sound is refused.

    Returns:
        Audio at ``rate_hz`` or ``rate_hz / 2``.

    Raises:
        MediaError: the file is missing, holds no sound, is damaged or too long, or its samples are no numbers.
    """
    name = source_name(source)
    with open_source(source) as file:
        try:
            samples, target_hz = _decode(file, name, rate_hz, max_duration_s)
        except MediaError:
            raise
        except MemoryError as error:
            raise MediaError(f"{name} does not fit into memory; cut it into shorter pieces") from error
        except Exception as error:  # demuxers and decoders raise whatever they trip over
            raise MediaError(
                f"{name} is no sound file in a known format, or it is damaged ({_reason(error)}); "
                "give a WAV, FLAC, MP3, M4A, Ogg or WebM file"
            ) from error
    return Audio.from_samples(samples, target_hz, name)


def _reason(error: Exception) -> str:
    """The library's words on one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split())[:100].lower()


def _decode(file: BinaryIO, name: str, rate_hz: int, max_duration_s: float) -> tuple[NDArray[np.float32], int]:
    check_wav_complete(file, name)
    with av.open(_HiddenName(file), "r", options=_OPTIONS, metadata_errors="ignore") as container:
        stream = container.streams.best("audio")
        if not isinstance(stream, av.AudioStream):
            raise MediaError(f"{name} has no sound track; give a sound file")
        mixer = _Mixer(name, rate_hz, max_duration_s)
        for frame in _frames(container, stream, name):
            mixer.add(frame)
        samples = mixer.finish()
        _check_complete(container, stream, mixer.duration_s, name)
        return samples, mixer.target_hz


def _frames(container: InputContainer, stream: AudioStream, name: str) -> Iterator[AudioFrame]:
    """Decoded ``av.AudioFrame`` objects; single damaged packets, as tags at the end of MP3 files are, are left out."""
    n_packets = n_damaged = 0
    for packet in container.demux(stream):
        n_packets += 1
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            n_damaged += 1
    n_tolerated = max(1, _MISSING_SHARE * n_packets)
    if n_damaged > n_tolerated or 0 < n_damaged >= n_packets - 1:  # the last packet only flushes
        raise MediaError(f"{name} is damaged: {n_damaged} of its {n_packets} packets cannot be decoded; copy it again")


class _Mixer:
    """Collects decoded frames as mono samples of the wanted rate; memory grows with these alone."""

    def __init__(self, name: str, rate_hz: int, max_duration_s: float) -> None:
        self._name = name
        self._rate_hz = rate_hz
        self._max_duration_s = max_duration_s
        self._frame_rate_hz = 0
        self._resampler: Resampler | None = None
        self._blocks: list[NDArray[np.float32]] = []
        self.duration_s = 0.0
        self.target_hz = rate_hz

    def add(self, frame: AudioFrame) -> None:
        """Take one ``av.AudioFrame``."""
        if frame.sample_rate != self._frame_rate_hz:
            self._change_rate(frame.sample_rate)
        assert self._resampler is not None
        mono = self._mono(frame)
        self.duration_s += len(mono) / frame.sample_rate
        if self.duration_s > self._max_duration_s:
            limit = f"{self._max_duration_s / 60:g} minutes"
            raise MediaError(f"{self._name} is longer than {limit}, the most that is taken at once; cut it into pieces")
        self._append(self._resampler.push(mono))

    def finish(self) -> NDArray[np.float32]:
        """Everything, float32, shape (n_samples,)."""
        if self._resampler is not None:
            self._append(self._resampler.finish())
        samples = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        if not len(samples):
            raise MediaError(f"{self._name} holds no sound (0 samples); record it again")
        return samples

    def _append(self, samples: NDArray[np.float64]) -> None:
        self._blocks.append(samples.astype(np.float32))

    def _change_rate(self, frame_rate_hz: int) -> None:
        """At the start, and where joined streams differ: there the old filter is run out."""
        lowest, highest = _RATES_HZ
        if not lowest <= frame_rate_hz <= highest:
            raise MediaError(
                f"{self._name} claims {frame_rate_hz} samples per second; {lowest} to {highest} are possible"
            )
        if self._resampler is None:
            self.target_hz = self._rate_hz if frame_rate_hz > self._rate_hz // 2 else self._rate_hz // 2
        else:
            self._append(self._resampler.finish())
        self._resampler = Resampler(frame_rate_hz, self.target_hz)
        self._frame_rate_hz = frame_rate_hz

    def _mono(self, frame: AudioFrame) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):  # what is no number is refused below, without warnings
            samples: NDArray[np.float64] = _samples(frame, self._name).mean(axis=0)
        peak = np.abs(samples).max(initial=0.0)
        if peak <= _MAX_AMPLITUDE:
            return samples
        at_s = f"at {self.duration_s:.2f} s"
        if np.isfinite(peak):
            raise MediaError(f"{self._name} has samples {peak:.6g} times full scale {at_s}; save it as 16-bit PCM")
        raise MediaError(
            f"{self._name} has samples that are no numbers (NaN or infinite) {at_s}; save it again as 16-bit PCM"
        )


def _samples(frame: AudioFrame, name: str) -> NDArray[np.float64]:
    """float64, shape (channels, n_samples), full scale is [-1, 1]."""
    n_channels = len(frame.layout.channels)
    full_scale = _FULL_SCALES.get(frame.format.name.removesuffix("p"))
    if full_scale is None or not 0 < n_channels <= _MAX_CHANNELS:
        raise MediaError(f"{name} has {n_channels} channels of {frame.format.name} samples; save it as 16-bit stereo")
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, n_channels).T
    centred = values.astype(np.float64) - (full_scale if values.dtype == np.uint8 else 0.0)
    return np.asarray(centred / full_scale)


def _check_complete(container: InputContainer, stream: AudioStream, duration_s: float, name: str) -> None:
    """Raise MediaError when much of the stated length is missing."""
    stated_s = _stated_duration_s(container, stream)
    if duration_s < stated_s * (1 - _MISSING_SHARE) - _MISSING_S:
        raise MediaError(
            f"{name} ends after {duration_s:.1f} s of {stated_s:.1f} s: the file is cut off; copy it again"
        )


def _stated_duration_s(container: InputContainer, stream: AudioStream) -> float:
    """What the container says of the sound's length, or 0 where it does not or only estimates."""
    if container.format.name in _EXACT_CONTAINERS and stream.duration:
        return float(stream.duration * (stream.time_base or 0))
    if container.format.name == "matroska,webm" and len(container.streams) == 1 and container.duration:
        return container.duration / 1e6
    return 0.0
