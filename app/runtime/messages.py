"""What goes into the model: messages made of text, image and audio parts.

Media are decoded before they come here, and carry the hash of their content: the key of the
encoder cache and of KV prefix reuse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of typed text; never parsed for special tokens."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded, upright RGB picture.

    Attributes:
        pixels: uint8, shape (height, width, 3).
        content_hash: hex digest of shape and pixels.
        name: file name or other label for messages to the user.
    """

    pixels: NDArray[np.uint8]
    content_hash: str
    name: str = "image"

    @classmethod
    def from_pixels(cls, pixels: NDArray[np.uint8], name: str = "image") -> Image:
        """Wrap decoded pixels, shape (height, width, 3), and hash them."""
        digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
        digest.update(pixels.tobytes())
        return cls(pixels, digest.hexdigest(), name)


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Decoded mono sound at the model's 16 kHz, or at 8 kHz for its narrow-band path.

    Attributes:
        samples: float32, shape (n_samples,), full scale is [-1, 1].
        rate_hz: sample rate of ``samples``; everything else was resampled on decoding.
        content_hash: hex digest of rate and samples.
        name: file name or other label for messages to the user.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    content_hash: str
    name: str = "audio"

    @classmethod
    def from_samples(cls, samples: NDArray[np.float32], rate_hz: int, name: str = "audio") -> Audio:
        """Wrap mono float32 samples, shape (n_samples,), and hash them."""
        digest = hashlib.blake2b(str(rate_hz).encode(), digest_size=16)
        digest.update(samples.tobytes())
        return cls(samples, rate_hz, digest.hexdigest(), name)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz


Part = Text | Image | Audio


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation.

    Attributes:
        role: who speaks.
        parts: text and media in the order the model sees them.
        tools: JSON text of tool descriptions; only on a system message (phi4mm chat template).
    """

    role: Role
    parts: tuple[Part, ...] = field(default=())
    tools: str | None = None
