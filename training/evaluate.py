"""Answer the held-out set with the full-precision model, by real greedy generation, and count whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
import yaml
from PIL import Image
from scipy.signal import resample_poly

from .logmel import log_mel
from .model import audio_rows, hear, image_rows, see, set_mode
from .packing import Packer
from .tiling import cut

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import Phi4MultimodalForCausalLM

    from .tokenizer import Codec

MAX_TOKENS = 60


def read_clip(path: Path) -> np.ndarray:
    """A recording as 16 kHz samples."""
    samples, rate = soundfile.read(path, dtype="float32")
    if samples.ndim > 1:
        samples = samples.mean(1)
    return samples if rate == 16000 else resample_poly(samples, 16000, rate).astype(np.float32)


def case_mode(case: dict[str, Any]) -> str:
    """Text, speech, vision or vision_speech: decided by all media of the conversation."""
    kinds = {kind for message in case["messages"] for part in message["parts"] for kind in part}
    if "image" in kinds:
        return "vision_speech" if "audio" in kinds else "vision"
    return "speech" if "audio" in kinds else "text"


class Answerer:
    """Builds prompts with media rows and decodes greedily."""

    def __init__(self, model: Phi4MultimodalForCausalLM, codec: Codec, folder: Path) -> None:
        self.model, self.packer, self.codec, self.folder = model.eval(), Packer(codec), codec, folder

    def _ids(self, ids: list[int]) -> Tensor:
        return self.model.model.embed_tokens(torch.tensor(ids, dtype=torch.long))

    def _part(self, part: dict[str, str], mode: str) -> Tensor:
        if "text" in part:
            return self._ids(list(self.codec.encode(part["text"])))
        if "image" in part:
            with Image.open(self.folder / part["image"]) as image:
                layout, crops, masks = cut(image.convert("RGB"))
            return image_rows(self.model, see(self.model, crops, masks), [layout])
        features = torch.from_numpy(log_mel(read_clip(self.folder / part["audio"])))[None]
        return audio_rows(self.model, hear(self.model, features), "speech" if mode == "speech" else "vision")[0]

    def prompt(self, case: dict[str, Any]) -> Tensor:
        """Embedding rows of the whole conversation and the generation prompt."""
        mode = case_mode(case)
        set_mode(self.model, {"text": None, "speech": "speech"}.get(mode, "vision"))
        rows = []
        for message in case["messages"]:
            rows.append(self._ids([self.codec.special(f"<|{message['role']}|>")]))
            rows += [self._part(part, mode) for part in message["parts"]]
            rows.append(self._ids([self.packer.end]))
        return torch.cat([*rows, self._ids([self.packer.assistant])])

    @torch.no_grad()
    def answer(self, case: dict[str, Any]) -> str:
        """The model's answer."""
        rows = self.prompt(case)[None]
        ids = self.model.generate(
            inputs_embeds=rows, attention_mask=torch.ones(rows.shape[:2]), max_new_tokens=MAX_TOKENS, do_sample=False
        )
        return self.codec.decode([i for i in ids[0].tolist() if i != self.packer.end])


def evaluate(
    model: Phi4MultimodalForCausalLM, codec: Codec, folder: Path, every: int = 1
) -> tuple[dict[str, tuple[float, int]], list[tuple[str, str, str]]]:
    """Per task (share right, cases), and the wrong answers as (case, wanted, got)."""
    answerer = Answerer(model, codec, folder)
    counts: dict[str, list[bool]] = {}
    wrong = []
    for case in yaml.safe_load((folder / "cases.yaml").read_text())["cases"][::every]:
        got = answerer.answer(case).strip()
        counts.setdefault(case["task"], []).append(got == case["answer"])
        if got != case["answer"]:
            wrong.append((case["id"], case["answer"], got))
    return {task: (sum(v) / len(v), len(v)) for task, v in counts.items()}, wrong
