from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from app.runtime.vision import resize
from app.runtime.vision.resize import resize_bicubic, resize_bilinear

GOLDENS = Path(__file__).parents[2] / "golden" / "media.npz"
SIDES = st.integers(1, 130)


@settings(max_examples=150, deadline=None)
@given(rows=SIDES, columns=SIDES, height=SIDES, width=SIDES, band=st.sampled_from([1 << 20, 500, 1]))
def test_bilinear_equals_one_call_of_pillow(rows, columns, height, width, band):
    pixels = np.random.default_rng(rows * columns).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    whole = PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resize, "_BAND_PIXELS", band)
        assert np.array_equal(resize_bilinear(pixels, width, height), np.asarray(whole))


@pytest.mark.parametrize("shape", [(24, 36, 12, 12), (21, 35, 7, 7), (12, 12, 12, 12), (10, 23, 17, 9)])
def test_bicubic_agrees_with_pytorch(shape):
    name = "_".join(map(str, shape))
    with np.load(GOLDENS) as goldens:
        planes, expected = goldens[f"planes_{name}"], goldens[f"bicubic_{name}"]
    result = resize_bicubic(planes, shape[3], shape[2])
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5, rtol=0)
