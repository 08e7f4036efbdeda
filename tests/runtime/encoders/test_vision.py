from dataclasses import replace

import numpy as np
import pytest
from reference_vision import ReferenceVision
from small_models import AUDIO, VISION, audio_weights, relative_error, vision_weights, write

from app.common.errors import Cancelled, ModelFormatError
from app.runtime.encoders.layout import Layout
from app.runtime.encoders.vision import VisionEncoder, flatten_patches, key_mask
from app.runtime.vision.tiling import tile_image

# (height, width): exact tiles, padding right, padding below, several crops, odd counts of valid patches
SIZES = [(112, 112), (112, 113), (150, 90), (300, 70), (201, 333), (40, 500)]
ODD = replace(VISION, embedding_length=45, head_count=5, feed_forward_length=77, projection_length=33, position_grid=11)
QUANTIZABLE = replace(VISION, embedding_length=64, head_count=2, feed_forward_length=96, projection_length=64)


def picture(size, seed=3):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return noise // 2 + np.linspace(0, 127, size[1]).astype(np.uint8)[None, :, None]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory, cpu):
    """Weights, exact and fast encoder per parameter set."""
    made = {}
    for name, params in {"plain": VISION, "odd": ODD}.items():
        weights = vision_weights(params)
        path = write(tmp_path_factory.mktemp("vision") / f"{name}.gguf", "phi4mm-vision", params, weights)
        made[name] = (weights, VisionEncoder(path, cpu, exact=True), VisionEncoder(path, cpu))
    yield made
    for _, *pair in made.values():
        for encoder in pair:
            encoder.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["plain", "odd"])
def test_rows_are_those_of_the_float64_reference(encoders, name, size):
    weights, exact, fast = encoders[name]
    tiles = tile_image(picture(size), exact.params)
    reference = ReferenceVision(exact.params, weights).encode(tiles)
    assert reference.shape == (tiles.n_tokens, exact.params.projection_length)
    assert relative_error(exact.encode(tiles), reference) < 5e-6
    assert relative_error(fast.encode(tiles), reference) < 5e-6  # flash attention keeps float32 on the CPU


def test_the_same_picture_twice_gives_the_same_bits(encoders):
    _, exact, fast = encoders["plain"]
    tiles = tile_image(picture((150, 90)), VISION)
    for encoder in (exact, fast):
        assert np.array_equal(encoder.encode(tiles), encoder.encode(tiles))


def test_attention_is_bidirectional_and_blind_to_padding(encoders):
    _, exact, _ = encoders["plain"]
    tiles = tile_image(picture((112, 60)), VISION)
    assert not tiles.patch_mask.all()
    before = exact.encode(tiles)
    tiles.pixels[1, :, :, -14:] += 1.0  # padded column: not attended
    assert np.array_equal(exact.encode(tiles)[:1], before[:1])
    tiles.pixels[1, :, -14:, :14] += 1.0  # a late valid patch moves the first row
    assert not np.allclose(exact.encode(tiles)[0], before[0])


def test_many_crops_run_in_several_batches(encoders, monkeypatch):
    weights, exact, _ = encoders["plain"]
    monkeypatch.setitem(__import__("app.runtime.encoders.vision", fromlist=["x"])._PATCHES_PER_BATCH, "cpu", 128)
    tiles = tile_image(picture((220, 330)), VISION)
    assert len(tiles.pixels) == 7
    assert relative_error(exact.encode(tiles), ReferenceVision(VISION, weights).encode(tiles)) < 5e-6


@pytest.mark.parametrize(
    ("kind", "layout", "bound"),
    [
        ("F16", Layout.STORED, 2e-3),
        ("BF16", Layout.STORED, 1.5e-2),
        ("Q8_0", Layout.STORED, 2e-2),
        ("Q8_0", Layout.BF16, 1.5e-2),
        ("Q8_0", Layout.F32, 1e-2),
        ("Q4_0", Layout.BF16, 2e-1),
    ],
)
def test_quantized_weights_cost_a_bounded_error(tmp_path, cpu, kind, layout, bound):
    weights = vision_weights(QUANTIZABLE)
    path = write(tmp_path / "v.gguf", "phi4mm-vision", QUANTIZABLE, weights, kind)
    tiles = tile_image(picture((150, 90)), QUANTIZABLE)
    with VisionEncoder(path, cpu, layout=layout) as encoder:
        error = relative_error(encoder.encode(tiles), ReferenceVision(QUANTIZABLE, weights).encode(tiles))
    assert 1e-5 < error < bound


def test_exact_expands_quantized_weights_without_further_loss(tmp_path, cpu):
    weights = vision_weights(QUANTIZABLE)
    path = write(tmp_path / "v.gguf", "phi4mm-vision", QUANTIZABLE, weights, "Q8_0")
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0
    rounded = {
        name: gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind)
        if value.ndim == 2 and "embd" not in name
        else value
        for name, value in weights.items()
    }
    tiles = tile_image(picture((150, 90)), QUANTIZABLE)
    with VisionEncoder(path, cpu, exact=True) as encoder:
        assert relative_error(encoder.encode(tiles), ReferenceVision(QUANTIZABLE, rounded).encode(tiles)) < 5e-6


def test_zero_padding_of_the_feed_forward_layer_changes_nothing(tmp_path, cpu):
    weights = vision_weights(VISION)
    padded = dict(weights)
    for block in range(VISION.block_count):
        name = f"v.blk.{block}"
        padded[f"{name}.ffn_up.weight"] = np.pad(weights[f"{name}.ffn_up.weight"], ((0, 16), (0, 0)))
        padded[f"{name}.ffn_up.bias"] = np.pad(weights[f"{name}.ffn_up.bias"], (0, 16))
        padded[f"{name}.ffn_down.weight"] = np.pad(weights[f"{name}.ffn_down.weight"], ((0, 0), (0, 16)))
    path = write(tmp_path / "v.gguf", "phi4mm-vision", VISION, padded)
    tiles = tile_image(picture((150, 90)), VISION)
    with VisionEncoder(path, cpu, exact=True) as encoder:
        assert relative_error(encoder.encode(tiles), ReferenceVision(VISION, weights).encode(tiles)) < 5e-6


def test_cancel_stops_and_the_encoder_works_afterwards(encoders):
    _, exact, _ = encoders["plain"]
    tiles = tile_image(picture((220, 330)), VISION)
    before = exact.encode(tiles)
    asked = []
    with pytest.raises(Cancelled):
        exact.encode(tiles, cancel=lambda: asked.append(1) is None and len(asked) > 20)
    assert len(asked) == 21
    assert np.array_equal(exact.encode(tiles), before)


def broken(change):
    weights = vision_weights(VISION)
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("v.blk.1.ln2.bias"), "v.blk.1.ln2.bias is missing"),
        (lambda w: w.update({"v.blk.0.attn_out.weight": np.zeros((48, 47), np.float32)}), r"shape \(48, 47\), not"),
        (lambda w: w.update({"v.proj_down.bias": np.zeros(1, np.float32)}), "v.proj_down.bias has shape"),
        (lambda w: w.update({"v.sub_separator": np.zeros(48, np.int32)}), "unusable type I32"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_by_name(tmp_path, cpu, change, message):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "phi4mm-vision")
    writer.add_uint32("hearsee.format_version", 1)
    for key, value in VISION.to_metadata().items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float64)(key, value)
    for name, value in broken(change).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelFormatError, match=message):
        VisionEncoder(tmp_path / "v.gguf", cpu)


def test_an_audio_file_is_not_a_vision_encoder(tmp_path, cpu):
    path = write(tmp_path / "a.gguf", "phi4mm-audio", AUDIO, audio_weights(AUDIO))
    with pytest.raises(ModelFormatError, match="phi4mm-audio"):
        VisionEncoder(path, cpu)


def test_patches_are_flattened_channel_line_column():
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    rows = flatten_patches(pixels, 2)
    assert rows.shape == (2, 4, 16)
    assert rows[1, 2, :12].tolist() == pixels[1, :, 2:4, 0:2].reshape(-1).tolist()
    assert not rows[..., 12:].any()


def test_key_mask_hides_padded_keys_from_every_query():
    mask = key_mask(np.array([[[True, False], [True, False]]]))
    assert mask.shape == (1, 1, 4, 4)
    assert (mask[..., [0, 2]] == 0).all()
    assert np.isneginf(mask[..., [1, 3]]).all()
