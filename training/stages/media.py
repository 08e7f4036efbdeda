"""Stages 3 and 4: on the frozen base, adapters and projectors learn from real pixels and real sound.

``sight``: tower, image projector and vision adapter on pictures with typed questions.
``speech``: audio encoder, speech projector and speech adapter on clips.
``both``: vision adapter, image side and second audio projector on pictures with typed and spoken questions; the audio
encoder stays as ``speech`` left it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.clips import ClipStore
from training.domain.scenes import Scene
from training.drawing import draw_scene, draw_unknown, draw_word
from training.fast import speed_up
from training.hearing import clip_batch, trained_order, window
from training.ideal import IdealRows, clip_rows, ideal_clip
from training.model import adapted_layers, add_adapters, audio_rows, build, demo_config, hear, image_rows, see, set_mode
from training.packing import Batch, Packer, answer_logits, exact_answers, loss_of
from training.samples import Clip, Dialogue, Picture, clip_dialogue, compare_dialogue, picture_dialogue
from training.tiling import cut
from training.tokenizer import VOCABULARY, load_codec

from .audio import ctc_loss
from .common import Stage, Team, optimiser, scores

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from training.samples import Speaker


def _state(folder: Path, name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(folder / f"{name}.pt", weights_only=True)["model"]
    return state


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in state.items() if key.startswith(prefix + ".")}


class MediaModel:
    """The whole model with adapters, put together from the checkpoints of the earlier stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codec = load_codec(folder / "tokenizer.json")
        self.packer = Packer(self.codec)
        self.model = build(demo_config(self.codec))
        self.ideal = IdealRows(self.model.config.hidden_size, self.codec)
        self.ctc = nn.Linear(self.model.config.audio_config.hidden_size, VOCABULARY)
        embed = self.model.model.embed_tokens_extend
        self.image, self.audio = embed.image_embed, embed.audio_embed
        speed_up(self.audio.encoder)
        self._load_base()
        self._quieten_projectors()
        add_adapters(self.model)
        self.ideal.requires_grad_(False)
        layers = list(adapted_layers(self.model))
        self.adapters = {
            mode: nn.ModuleList(module for layer in layers for module in (layer.a[mode], layer.b[mode]))
            for mode in ("vision", "speech")
        }
        self.groups = {
            "image": nn.ModuleDict({"image": self.image, "adapter": self.adapters["vision"]}),
            "second": nn.ModuleDict(
                {
                    "up": self.audio.up_proj_for_vision_speech,
                    "down": self.audio.down_proj_for_vision_speech,
                }
            ),
            "sound": nn.ModuleDict(
                {
                    "encoder": self.audio.encoder,
                    "up": self.audio.up_proj_for_speech,
                    "down": self.audio.down_proj_for_speech,
                    "adapter": self.adapters["speech"],
                    "ctc": self.ctc,
                }
            ),
        }

    def _load_base(self) -> None:
        base = _state(self.folder, "base")
        for name, module in (
            ("embed", self.model.model.embed_tokens),
            ("layers", self.model.model.layers),
            ("norm", self.model.model.norm),
            ("ideal", self.ideal),
        ):
            module.load_state_dict(_part(base, name))

    @torch.no_grad()
    def _quieten_projectors(self) -> None:
        """Start the media rows at the size of token embeddings instead of ten times above it."""
        audio = self.audio
        for layer in (self.image.img_projection_down, audio.down_proj_for_speech, audio.down_proj_for_vision_speech):
            layer.weight.mul_(0.1)

    def load_tower(self) -> None:
        """The dense pre-trained tower."""
        self.image.img_processor.load_state_dict(_part(_state(self.folder, "vision"), "tower"))

    def load_encoder(self) -> None:
        """The CTC pre-trained encoder with its head."""
        audio = _state(self.folder, "audio")
        self.audio.encoder.load_state_dict(_part(audio, "encoder"))
        self.ctc.load_state_dict(_part(audio, "head"))

    def load_group(self, stage: str, group: str) -> None:
        """One group of modules from a finished (or running) media stage."""
        self.groups[group].load_state_dict(_part(_state(self.folder, stage), group))

    def second_from_first(self) -> None:
        """Start the projector of picture mode as a copy of the one of speech mode."""
        self.audio.up_proj_for_vision_speech.load_state_dict(self.audio.up_proj_for_speech.state_dict())
        self.audio.down_proj_for_vision_speech.load_state_dict(self.audio.down_proj_for_speech.state_dict())

    def picture_rows(self, pictures: list[Picture], rng: Random, learn: bool) -> Tensor:
        """Draw the pictures and encode them; without ``learn`` the tower gets no gradient."""
        cuts = [cut(_drawn(picture, rng)) for picture in pictures]
        crops, masks, order = [], [], []
        for _, tiles, valid in cuts:
            twin = len(tiles) == 2 and bool(valid.all())  # one full crop: its global view is the same picture
            order += [len(crops), len(crops) + (0 if twin else 1), *range(len(crops) + 2, len(crops) + len(tiles))]
            crops += tiles[: 1 if twin else None]
            masks += valid[: 1 if twin else None]
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            pooled = see(self.model, torch.stack(crops), torch.stack(masks))[order]
        return image_rows(self.model, pooled, [layout for layout, _, _ in cuts])

    def encode_clips(self, store: ClipStore, clips: list[Clip], rng: Random | None, learn: bool) -> Tensor:
        """Encode recordings together and set how many rows each takes."""
        features, _ = clip_batch(store, [clip.source for clip in clips], rng)
        with torch.set_grad_enabled(learn and torch.is_grad_enabled()):
            hidden = hear(self.model, features)
        for clip in clips:
            clip.tokens = hidden.shape[1]
        return hidden


def _drawn(picture: Picture, rng: Random) -> Image.Image:
    content = picture.content
    if content is None:
        return draw_unknown(rng).resize(picture.size)
    return draw_scene(rng, content) if isinstance(content, Scene) else draw_word(rng, content)


def _clips(dialogues: list[Dialogue]) -> list[Clip]:
    parts = [p for d in dialogues for p in [*d.shared, *(q for tail in d.tails for turn in tail for q in turn.parts)]]
    return [part for part in parts if isinstance(part, Clip)]


def distance(rows: Tensor, goal: Tensor) -> Tensor:
    """Squared distance, relative to the size of the goal."""
    return (rows - goal).pow(2).mean() / goal.pow(2).mean()


class SpeechStage:
    """Clips in speech mode."""

    def __init__(self, folder: Path, media: MediaModel) -> None:
        self.media = media
        self.store = ClipStore(folder / "clips", "train")
        self.order = trained_order(self.store)
        self.tests = {name: ClipStore(folder / "clips", name) for name in ("held", "other")}
        self.rng = Random(51)
        self.modules = nn.ModuleDict({"sound": media.groups["sound"]})
        self.blank = media.codec.special("<|endoftext|>")

    def forward(
        self, store: ClipStore, chosen: list[int], rng: Random | None
    ) -> tuple[Batch, Tensor, Tensor, Tensor, Tensor]:
        """Batch, logits, targets, encoder output and projected rows of some recordings."""
        set_mode(self.media.model, "speech")
        entries = [store.entries[index] for index in chosen]
        clips = [Clip(entry["text"], index) for index, entry in zip(chosen, entries, strict=True)]
        hidden = self.media.encode_clips(store, clips, rng, learn=True)
        rows = audio_rows(self.media.model, hidden, "speech")
        draw = rng or Random(1)
        dialogues = [clip_dialogue(draw, c, e["task"], e["answer"]) for c, e in zip(clips, entries, strict=True)]
        batch = self.media.packer.batch(dialogues)
        return batch, *answer_logits(self.media.model, self.media.packer, batch, None, rows), hidden, rows

    def loss(self, stage: Stage) -> Tensor:
        """Answers, plus CTC on the encoder, plus (at first) a pull of the rows towards expected token embeddings."""
        chosen = window(self.rng, self.order, 24)
        _, logits, targets, hidden, rows = self.forward(self.store, chosen, self.rng)
        value = answers = loss_of(logits, targets)
        heard = self.media.ctc(hidden).float()
        texts = [self.media.codec.encode(self.store.entries[index]["text"]) for index in chosen]
        ctc = ctc_loss(heard, texts, self.blank)
        pull = max(0.0, 1 - stage.spent / 420)
        if pull > 0:
            goal = heard.detach().softmax(-1) @ self.media.model.model.embed_tokens.weight
            away = distance(rows.float(), goal)
            stage.note(away=away)
            value = value + pull * away
        stage.note(answers=answers, ctc=ctc)
        return value + 0.3 * ctc

    def evaluate(self) -> str:
        """Whole answers right: voices never trained on, and the engine left out."""
        results = []
        for name, store in self.tests.items():
            order = sorted(range(0, len(store.entries), 3), key=lambda index: store.entries[index]["frames"])
            for start in range(0, len(order), 30):
                batch, logits, *_ = self.forward(store, order[start : start + 30], None)
                results += [
                    (f"{name}_{task}", right) for task, right in exact_answers(batch, logits, self.media.codec.end)
                ]
        totals = [("ALL_" + "_".join(task.split("_")[:2]), right) for task, right in results]
        return scores(totals) + "\n    " + scores(results)


class SightStage:
    """Pictures in vision mode, with typed and (in ``both``) spoken questions."""

    def __init__(self, folder: Path, media: MediaModel, spoken: bool, rank: int = 0) -> None:
        self.media, self.spoken = media, spoken
        self.rng = Random((62 if spoken else 61) + 100 * rank)
        self.kinds = Random(63)  # the same in every process: all do the same kind of batch at a time
        groups = ("image", "second") if spoken else ("image",)
        self.modules = nn.ModuleDict({name: media.groups[name] for name in groups})
        self.store = ClipStore(folder / "clips", "train")
        self.tests = ClipStore(folder / "clips", "held")
        self.allowed = set(trained_order(self.store))

    def _speaker(self, store: ClipStore, rng: Random, real: bool) -> Speaker:
        def speak(text: str) -> Clip | None:
            if not real:
                return ideal_clip(rng, self.media.codec, text)
            found = store.by_text.get(text)
            return Clip(text, rng.choice(found)) if found else None

        return speak

    def dialogues(self, rng: Random, spoken: bool, count: int, store: ClipStore, held: bool = False) -> list[Dialogue]:
        """Random dialogues about pictures."""
        speak = self._speaker(store, rng, self.spoken) if spoken else None
        found: list[Dialogue] = []
        while len(found) < count:
            compare = rng.random() < 0.2 and not held
            made = compare_dialogue(rng, 3, speak) if compare else picture_dialogue(rng, 5, speak, held)
            if made:
                found.append(made)
        return found

    def forward(
        self, rng: Random, spoken: bool, count: int, store: ClipStore, train: bool, held: bool = False
    ) -> tuple[Batch, Tensor, Tensor, Tensor]:
        """Batch, logits, targets and image rows."""
        media = self.media
        set_mode(media.model, "vision")
        dialogues = self.dialogues(rng, spoken, count * 3 if train else count, store, held)
        if train:
            dialogues = media.packer.alike(rng, dialogues, count)
        clips, audios = _clips(dialogues), None
        if clips and self.spoken:
            hidden = media.encode_clips(store, clips, rng if train else None, learn=False)
            audios = audio_rows(media.model, hidden, "vision")
        elif clips:
            table = media.model.model.embed_tokens.weight
            audios = torch.cat([clip_rows(rng, media.codec, table, clip, 0.03) for clip in clips])
        batch = media.packer.batch(dialogues)
        images = media.picture_rows(batch.pictures, rng, learn=rng.random() < 0.6)
        return batch, *answer_logits(media.model, media.packer, batch, images, audios), images

    def loss(self, stage: Stage) -> Tensor:
        """Answers, plus (at first) a pull of the image rows towards ideal rows."""
        spoken = self.kinds.random() < (0.55 if self.spoken else 0.1)
        batch, logits, targets, images = self.forward(self.rng, spoken, 10 if spoken else 12, self.store, True)
        value = loss_of(logits, targets)
        stage.note(**{"spoken" if spoken else "typed": value})
        pull = 0.0 if self.spoken else max(0.2, 1 - stage.spent / 600)
        if pull > 0:
            tokens = self.media.model.model.embed_tokens.weight
            away = distance(images.float(), self.media.ideal.pictures(batch.pictures, tokens, 0.0))
            stage.note(away=away)
            value = value + pull * away
        return value

    def evaluate(self) -> str:
        """Whole answers right: new pictures, pictures with pairs and fonts never trained on, spoken questions."""
        lines = []
        for name, held, spoken in (("new", False, False), ("held", True, False), ("spoken", False, True)):
            rng, results = Random(5), []
            for _ in range(5 if name != "held" else 3):
                batch, logits, *_ = self.forward(rng, spoken, 30, self.tests, False, held)
                results += exact_answers(batch, logits, self.media.codec.end)
            total = sum(right for _, right in results) / len(results)
            lines.append(f"{name} ALL={total:.3f}({len(results)}) " + scores(results))
        return "\n    ".join(lines)


def run(folder: Path, name: str, minutes: float, rank: int = 0, size: int = 1) -> None:
    """Run one of the stages ``sight``, ``speech`` and ``both``, the last by ``size`` processes together."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    team = Team().join(folder / f"{name}.meeting", rank, size)
    media = MediaModel(folder)
    if name == "speech":
        media.load_encoder()
        work: SpeechStage | SightStage = SpeechStage(folder, media)
    elif name == "sight":
        media.load_tower()
        work = SightStage(folder, media, spoken=False)
    else:
        media.load_group("sight", "image")
        media.load_group("speech", "sound")
        media.second_from_first()
        media.groups["sound"].requires_grad_(False)
        work = SightStage(folder, media, True, rank)
    stage = Stage(name, folder, minutes, {"speech": 1.2e-3, "sight": 1.2e-3, "both": 8e-4}[name])
    adam = optimiser(work.modules.parameters())
    stage.run(work.modules, adam, lambda: work.loss(stage), work.evaluate, 6, team=team)
