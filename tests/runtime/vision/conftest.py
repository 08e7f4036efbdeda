from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.runtime.formats.params import VisionParams

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def make_params() -> Callable[..., VisionParams]:
    def make(**changes: float) -> VisionParams:
        sizes: dict[str, float] = {
            "embedding_length": 8,
            "feed_forward_length": 16,
            "block_count": 1,
            "head_count": 1,
            "layer_norm_epsilon": 1e-6,
            "crop_size": 448,
            "patch_size": 14,
            "position_grid": 32,
            "max_crops": 36,
            "pixel_mean": 0.5,
            "pixel_std": 0.5,
            "projection_length": 8,
        }
        params = VisionParams(**(sizes | changes))  # type: ignore[arg-type]
        params.check("test")
        return params

    return make
