"""The whole model: a case of a suite to tokens, embeddings and logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from app.validation.reference.audio import AudioReference
from app.validation.reference.checkpoint import Checkpoint
from app.validation.reference.language import LanguageReference
from app.validation.reference.pictures import load_crops
from app.validation.reference.prompt import Media, PromptReference
from app.validation.reference.settings import language_settings, sound_settings, vision_settings
from app.validation.reference.sounds import load_log_mel
from app.validation.reference.vision import VisionReference

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.validation.suite import Case


class Reference:
    """A checkpoint, opened for recording."""

    def __init__(self, directory: Path) -> None:
        """Open the folder and make sure that its tower sees in both directions."""
        self.checkpoint = Checkpoint(directory)
        self.language = language_settings(self.checkpoint)
        self.prompt = PromptReference(self.checkpoint)
        self.vision = VisionReference(self.checkpoint, vision_settings(self.checkpoint))
        self.audio = AudioReference(self.checkpoint, sound_settings(self.checkpoint))
        with torch.inference_mode():
            self.vision.check_bidirectional()

    @torch.inference_mode()
    def run(self, case: Case) -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
        """``tokens`` (int32), ``logits`` and, for its media, ``image_embeddings``, ``audio_embeddings`` (float32)."""
        decoder = LanguageReference(self.checkpoint, self.language, case.mode)
        tokens, rows, media = self._assemble(case, decoder)
        answer = self.prompt.encode(case.answer)
        rows.append(decoder.token_rows(torch.tensor(answer, dtype=torch.long)))
        logits = decoder.logits(torch.cat(rows), first=len(tokens) - 1)
        result = {f"{kind}_embeddings": torch.cat(found).numpy() for kind, found in media.items() if found}
        return {"tokens": np.array(tokens + answer, dtype=np.int32), **result, "logits": logits.numpy()}

    def _assemble(
        self, case: Case, decoder: LanguageReference
    ) -> tuple[list[int], list[torch.Tensor], dict[str, list[torch.Tensor]]]:
        tokens: list[int] = []
        rows: list[torch.Tensor] = []
        media: dict[str, list[torch.Tensor]] = {"image": [], "audio": []}
        for piece in self.prompt.pieces(case):
            if isinstance(piece, Media):
                media[piece.kind].append(self.embed(piece, case.mode))
                rows.append(media[piece.kind][-1])
                tokens += [self.prompt.placeholders[piece.kind]] * len(rows[-1])
            else:
                tokens += piece
                rows.append(decoder.token_rows(torch.tensor(piece, dtype=torch.long)))
        return tokens, rows, media

    def embed(self, media: Media, mode: str) -> torch.Tensor:
        """Embedding rows (n_tokens, hidden) of one media file."""
        if media.kind == "image":
            return self.vision.embed(load_crops(media.path, self.vision.settings))
        frames = load_log_mel(media.path, self.audio.settings.mel_bins)
        return self.audio.embed(frames, "vision_speech" if mode == "vision_speech" else "speech")
