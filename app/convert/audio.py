"""The sound encoder and its two projectors as ``audio-encoder.gguf`` (docs/model-format.md)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from app.convert.expected import AUDIO, ENCODER
from app.convert.planning import EncoderPlan
from app.runtime.formats.params import AudioParams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.convert.checkpoint import Checkpoint
    from app.convert.config import AudioConfig, CheckpointConfig
    from app.convert.gguf_writer import PlannedTensor
    from app.runtime.formats.ggml_types import GgmlType

ARCHITECTURE = "phi4mm-audio"


def audio_params(config: CheckpointConfig) -> AudioParams:
    """What the runtime needs to know; the fields have the configuration's own names."""
    return AudioParams(**asdict(config.audio), projection_length=config.language.embedding_length)


def audio_tensors(checkpoint: Checkpoint, wanted: GgmlType, magnitudes: Mapping[str, float]) -> list[PlannedTensor]:
    """Every tensor of the file."""
    audio, width = checkpoint.config.audio, checkpoint.config.language.embedding_length
    plan = EncoderPlan(checkpoint, wanted, magnitudes)
    plan.exact("a.mean", ENCODER + "encoder_embedding.global_mean", (audio.mel_bins,))
    plan.exact("a.invstd", ENCODER + "encoder_embedding.global_invstd", (audio.mel_bins,))
    _add_subsampling(plan, audio)
    bias = ENCODER + "relative_attention_bias_layer.bias_values.weight"
    plan.exact("a.rel_bias", bias, (2 * audio.bias_max_distance, audio.head_count))
    for block in range(audio.block_count):
        _add_block(plan, f"{ENCODER}encoders.{block}.", f"a.blk.{block}.", audio)
    for target, source in (("speech", "speech"), ("vision", "vision_speech")):
        plan.linear(f"a.proj.{target}.up", [f"{AUDIO}up_proj_for_{source}"], (width, audio.embedding_length))
        plan.linear(f"a.proj.{target}.down", [f"{AUDIO}down_proj_for_{source}"], (width, width))
    return plan.tensors


def _add_subsampling(plan: EncoderPlan, audio: AudioConfig) -> None:
    c, conv = audio.conv_channels, ENCODER + "embed.conv."
    for target, index in (("conv0", 0), ("dw1", 2), ("dw2", 5)):
        plan.exact(f"a.sub.{target}.weight", f"{conv}{index}.weight", (c, 1, 3, 3))
        plan.exact(f"a.sub.{target}.bias", f"{conv}{index}.bias", (c,))
    plan.linear("a.sub.pw1", [conv + "3"], (c, c))
    plan.linear("a.sub.pw2", [conv + "6"], (c, c))
    plan.linear("a.sub.out", [ENCODER + "embed.out"], (audio.embedding_length, c * audio.subsampled_mel_bins))


def _add_block(plan: EncoderPlan, source: str, target: str, audio: AudioConfig) -> None:
    d = audio.embedding_length
    _add_feed_forward(plan, source + "feed_forward_in.", target + "ffn1.", audio)
    plan.norm(target + "attn.norm", source + "layer_norm_att", d)
    plan.linear(target + "attn.qkv", [f"{source}self_attn.{part}_proj" for part in "qkv"], (3 * d, d))
    plan.linear(target + "attn.out", [source + "self_attn.o_proj"], (d, d))
    _add_convolution(plan, source + "conv.", target + "conv.", audio)
    _add_feed_forward(plan, source + "feed_forward_out.", target + "ffn2.", audio)
    plan.norm(target + "norm", source + "layer_norm", d)


def _add_feed_forward(plan: EncoderPlan, source: str, target: str, audio: AudioConfig) -> None:
    d, ff = audio.embedding_length, audio.feed_forward_length
    plan.norm(target + "norm", source + "layer_norm", d)
    plan.linear(target + "up", [source + "gate_up_proj"], (2 * ff, d))
    plan.linear(target + "down", [source + "down_proj"], (d, ff))


def _add_convolution(plan: EncoderPlan, source: str, target: str, audio: AudioConfig) -> None:
    d = audio.embedding_length
    plan.norm(target + "norm", source + "layer_norm", d)
    plan.matrix(target + "glu.weight", [source + "glu.ext_pw_conv_1d.weight"], (2 * d, d))
    _add_glu_bias(plan, source + "glu.", target + "glu.bias", d)
    depthwise = source + "dw_sep_conv_1d.dw_conv"
    plan.exact(target + "dw.weight", depthwise + ".weight", (d, audio.kernel_size))
    plan.exact(target + "dw.bias", depthwise + ".bias", (d,))
    plan.linear(target + "pw1", [source + "dw_sep_conv_1d.pw_conv"], (d, d))
    plan.linear(target + "pw2", [source + "ext_pw_conv_1d"], (d, d))


def _add_glu_bias(plan: EncoderPlan, source: str, target: str, d: int) -> None:
    """The convolution's bias and the two halves' own biases b1 and b2, added up in float32."""
    read = plan.checkpoint.read

    def fold(bias: NDArray[np.float32]) -> NDArray[np.float32]:
        folded: NDArray[np.float32] = bias + np.concatenate([read(source + part).reshape(d) for part in ("b1", "b2")])
        return folded

    plan.exact(target, source + "ext_pw_conv_1d.bias", (2 * d,), fold)
