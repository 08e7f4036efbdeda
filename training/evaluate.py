"""Answer the held-out set with the full-precision model, by real greedy generation, and record what it said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
import yaml
from PIL import Image

from app.runtime.audio.decode import load_audio
from app.runtime.vision.decode import load_image

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
            layout, crops, masks = cut(Image.fromarray(load_image(self.folder / part["image"]).pixels))
            return image_rows(self.model, see(self.model, crops, masks), [layout])
        features = torch.from_numpy(log_mel(load_audio(self.folder / part["audio"]).samples))[None]
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

    @torch.no_grad()
    def forced(self, case: dict[str, Any]) -> tuple[list[int], list[int]]:
        """The right answer's token ids, and the most likely token at each of its places and after it."""
        ids = list(self.codec.encode(case["answer"]))
        rows = torch.cat([self.prompt(case), self._ids(ids)])[None]
        logits = self.model(inputs_embeds=rows, use_cache=False).logits[0]
        return ids, logits[-len(ids) - 1 :].argmax(-1).tolist()


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """The cases of the held-out set."""
    cases: list[dict[str, Any]] = yaml.safe_load((folder / "suite.yaml").read_text())["cases"]
    return cases


def evaluate(answerer: Answerer, every: int = 1) -> tuple[dict[str, tuple[float, int]], list[str]]:
    """Per task (share right, cases), and the wrong answers in words."""
    counts: dict[str, list[bool]] = {}
    wrong = []
    for case in read_cases(answerer.folder)[::every]:
        got = answerer.answer(case).strip()
        counts.setdefault(case["id"].rpartition("-")[0], []).append(got == case["answer"])
        if got != case["answer"]:
            wrong.append(f"{case['id']}: {case['answer']} <- {got}")
    return {task: (sum(v) / len(v), len(v)) for task, v in counts.items()}, wrong


def record(answerer: Answerer, path: Path) -> None:
    """Write ``float32.json``: what the full-precision model answers, for ``hearsee bench demo``."""
    entries = {}
    for case in read_cases(answerer.folder):
        ids, top1 = answerer.forced(case)
        entries[case["id"]] = {"answer": answerer.answer(case).strip(), "answer_ids": ids, "top1": top1}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    path.write_text('{"cases": {\n' + lines + "\n}}\n")
