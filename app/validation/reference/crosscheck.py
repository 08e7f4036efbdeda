"""Check the reference against transformers' own modules, on an HF-native checkpoint and a suite.

    python -m app.validation.reference.crosscheck CHECKPOINT SUITE

Its modules run with eager attention in every sub-configuration (the tower's default is causal where no patch is
padded), one clip and one picture at a time, adapters merged as W + scale * B * A, and with the log-mel and crops of
this package: what is compared is both encoders and the decoder. Prints the relative L2 distance of each case; exits 1
above 1e-4.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from app.validation.reference.language import ADAPTER_OF_MODE
from app.validation.reference.model import Reference
from app.validation.reference.pictures import load_crops
from app.validation.reference.prompt import Media
from app.validation.reference.sounds import load_log_mel
from app.validation.suite import Case, load_suite

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 1e-4


def build(reference: Reference, mode: str, attention: str = "eager") -> Phi4MultimodalForCausalLM:
    """The library's model with the weights of ``reference`` and the mode's adapter merged."""
    config = Phi4MultimodalConfig.from_pretrained(reference.checkpoint.directory)
    for part in (config, config.vision_config, config.audio_config):
        part._attn_implementation = attention  # noqa: SLF001 - transformers' documented switch
    model = Phi4MultimodalForCausalLM(config).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in reference.checkpoint:
                tensor.copy_(_merged(reference, name, mode))
    return model


def _merged(reference: Reference, name: str, mode: str) -> torch.Tensor:
    weight = reference.checkpoint[name]
    adapter = ADAPTER_OF_MODE[mode]
    sides = None if adapter is None else reference.checkpoint.adapter(adapter, name.removesuffix(".weight"))
    return weight if sides is None else weight + sides[2] * sides[1] @ sides[0]


def run(reference: Reference, case: Case) -> dict[str, torch.Tensor]:
    """Embeddings and logits of a case by transformers' modules."""
    model = build(reference, case.mode)
    found: dict[str, list[torch.Tensor]] = {"image": [], "audio": []}
    rows: list[torch.Tensor] = []
    for piece in reference.prompt.pieces(case):
        if isinstance(piece, Media):
            found[piece.kind].append(_embed(reference, model, piece, case.mode))
            rows.append(found[piece.kind][-1])
        else:
            rows.append(model.model.embed_tokens(torch.tensor(piece, dtype=torch.long)))
    first = sum(map(len, rows)) - 1
    rows.append(model.model.embed_tokens(torch.tensor(reference.prompt.encode(case.answer), dtype=torch.long)))
    logits = model(inputs_embeds=torch.cat(rows)[None]).logits[0, first:]
    return {**{f"{kind}_embeddings": torch.cat(parts) for kind, parts in found.items() if parts}, "logits": logits}


def _embed(reference: Reference, model: Phi4MultimodalForCausalLM, media: Media, mode: str) -> torch.Tensor:
    extend = model.model.embed_tokens_extend
    kind = {"image": extend.image_embed, "audio": extend.audio_embed}[media.kind]
    captured: list[torch.Tensor] = []
    last = (
        kind.img_projection_down
        if media.kind == "image"
        else kind.down_proj_for_vision_speech
        if mode == "vision_speech"
        else kind.down_proj_for_speech
    )
    hook = last.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    count = len(reference.embed(media, mode))
    ids = torch.full((1, count), reference.prompt.placeholders[media.kind])
    empty = torch.zeros(1, count, model.config.hidden_size)
    if media.kind == "image":
        crops = load_crops(media.path, reference.vision.settings)
        side = reference.vision.settings.crop
        kind(
            ids,
            empty,
            crops.pixels[None],
            torch.tensor([[crops.rows * side, crops.columns * side]]),
            crops.masks[None].float(),
        )
    else:
        frames = load_log_mel(media.path, reference.audio.settings.mel_bins)
        kind(ids, empty, frames[None], torch.tensor([count]), None, "vision" if mode == "vision_speech" else "speech")
    hook.remove()
    return captured[0].view(-1, model.config.hidden_size)


def distance(a: torch.Tensor, b: np.ndarray) -> float:
    """Relative L2 distance of ``a`` from ``b``."""
    expected = torch.from_numpy(b)
    return float((a - expected).norm() / expected.norm())


@torch.inference_mode()
def main() -> int:
    """Compare every case of the suite."""
    reference = Reference(Path(sys.argv[1]))
    worst = 0.0
    for case in load_suite(Path(sys.argv[2])):
        ours, theirs = reference.run(case), run(reference, case)
        distances = {name: distance(theirs[name], ours[name]) for name in theirs}
        print(
            case.id,
            case.mode,
            len(ours["tokens"]),
            " ".join(f"{name} {value:.1e}" for name, value in distances.items()),
        )
        worst = max(worst, *distances.values())
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
