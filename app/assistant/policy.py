"""What the assistant always tells the model, and what it refuses before asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.common.errors import MediaError
from app.runtime.messages import Audio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.runtime.messages import Part

# Written into the manifest of a converted model, where the user may change it.
# The published model's card asks deployers to prevent guesses about people from their voice.
DEFAULT_SYSTEM_MESSAGE = (
    "You are Hearsee, a helpful assistant that hears and sees. "
    "Never infer age, gender, accent, origin, health, mood or other sensitive attributes of a person from their voice."
)


def check_limits(parts: Iterable[Part], max_audio_s: float | None) -> None:
    """Refuse a sound longer than the model offers to hear.

    Raises:
        MediaError: names the file, its length and the limit.
    """
    for part in parts:
        if isinstance(part, Audio) and max_audio_s is not None and part.duration_s > max_audio_s:
            raise MediaError(
                f"{part.name} lasts {part.duration_s:.0f} s, this model hears up to {max_audio_s:.0f} s; "
                "give it a shorter piece"
            )
