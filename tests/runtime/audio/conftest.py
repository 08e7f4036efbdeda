from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.runtime.formats.params import AudioParams

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def make_params() -> Callable[..., AudioParams]:
    def make(**changes: float) -> AudioParams:
        sizes: dict[str, float] = {
            "embedding_length": 16,
            "feed_forward_length": 24,
            "block_count": 1,
            "head_count": 2,
            "layer_norm_epsilon": 1e-5,
            "conv_channels": 4,
            "kernel_size": 3,
            "time_reduction": 8,
            "bias_max_distance": 500,
            "block_frames": 500,
            "projection_length": 8,
            "mel_bins": 80,
            "mel_high_hz": 7690.0,
            "sample_rate_hz": 16000,
            "window_length": 400,
            "hop_length": 160,
            "n_fft": 512,
            "preemphasis": 0.97,
        }
        params = AudioParams(**(sizes | changes))  # type: ignore[arg-type]
        params.check("test")
        return params

    return make
