"""Comparison figures against values worked out by hand, and refusal of what cannot be compared."""

import math

import numpy as np
import pytest

from app.common.errors import ValidationError
from app.validation.compare import case_distances, compare_files, figures, kl_divergence
from app.validation.recording import RecordingWriter, read_recording
from app.validation.report import markdown


def recording(logits, **embeddings):
    arrays = {name: np.array(value, np.float32) for name, value in {"logits": logits, **embeddings}.items()}
    return {"tokens": np.array([1, 2], np.int32), **arrays}


def test_kl_of_known_distributions():
    p, q = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert kl_divergence(p + 3, q - 5) == pytest.approx([expected])
    assert kl_divergence(p, p) == pytest.approx([0.0], abs=1e-15)


def test_figures_overall_and_per_mode():
    reference = {
        "a": recording([[0, 1], [1, 0]]),
        "b": recording([[3, 4]], audio_embeddings=[[3, 4]]),
        "c": recording([[0, 1]], audio_embeddings=[[0, 1]], image_embeddings=[[0, 2]]),
    }
    run = {
        "a": recording([[0, 1], [0, 1]]),
        "b": {**recording([[3, 4]], audio_embeddings=[[3, 4.5]]), "tokens": np.array([1, 3], np.int32)},
        "c": recording([[0, 1]], audio_embeddings=[[0, 1]], image_embeddings=[[0, 1]]),
    }
    found = figures(case_distances(run, reference))
    assert (found["cases"], found["rows"], found["top1_agreement"]) == (3, 4, 0.75)
    assert (found["text_top1_agreement"], found["speech_top1_agreement"]) == (0.5, 1.0)
    assert found["tokens_equal"] == pytest.approx(2 / 3)
    assert found["speech_tokens_equal"] == 0.0
    assert found["speech_audio_embeddings_relative_l2"] == pytest.approx(0.1)
    assert found["vision_speech_image_embeddings_worst_relative_l2"] == pytest.approx(0.5)
    one_row = math.e / (1 + math.e) - 1 / (1 + math.e)
    assert found["mean_kl"] == pytest.approx(one_row / 4)
    assert found["text_mean_kl"] == pytest.approx(one_row / 2)
    assert not any(name.startswith("vision_top1") for name in found)
    assert "| vision_speech | 1 | 1 | 100.0% | 100.00% |" in markdown(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"b": recording([[1, 2]])}, "case 'b' is not in the reference"),
        ({"a": recording([[1, 2, 3]])}, r"case 'a': logits has shape \(1, 3\)"),
        ({"a": recording([[1, math.nan]])}, "case 'a': logits of the run is not all finite"),
        ({"a": {"tokens": np.array([1], np.int32)}}, "case 'a': run has tokens"),
    ],
)
def test_incomparable_recordings_are_refused(change, words):
    reference = {"a": recording([[1, 2]])}
    with pytest.raises(ValidationError, match=words):
        case_distances({**reference, **change}, reference)


def test_a_reference_may_do_without_embeddings():
    run = {"a": recording([[1, 2]], audio_embeddings=[[3, 4]])}
    (distance,) = case_distances(run, {"a": recording([[1, 2]])})
    assert (distance.mode, set(distance.squares)) == ("speech", {"logits"})


def test_missing_case_is_named():
    with pytest.raises(ValidationError, match="case 'a' is not in the run"):
        case_distances({}, {"a": recording([[1, 2]])})


def test_recordings_survive_the_file_and_leave_no_half_one(tmp_path):
    path = tmp_path / "r.npz"
    with RecordingWriter(path) as writer:
        writer.add("x/y", recording([[1, 2]]))
    back = read_recording(path)
    assert list(back) == ["x/y"]
    np.testing.assert_array_equal(back["x/y"]["logits"], [[1, 2]])
    assert back["x/y"]["logits"].dtype == np.float32
    assert compare_files(path, path)["top1_agreement"] == 1.0
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]
    with pytest.raises(ValidationError, match="cannot be written"), RecordingWriter(tmp_path / "no" / "r.npz"):
        pass


def test_a_failed_recording_leaves_the_old_one(tmp_path):
    path = tmp_path / "r.npz"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), RecordingWriter(path) as writer:  # noqa: PT012 - the writer is what is tested
        writer.add("a", recording([[1, 2]]))
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]


def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "full.npz.tmp").symlink_to("/dev/full")
    with pytest.raises(ValidationError, match="cannot be written"), RecordingWriter(tmp_path / "full.npz") as writer:
        writer.add("a", {"logits": np.random.RandomState(0).rand(1000, 1000)})


@pytest.mark.parametrize("content", [b"", b"PK\3\4 broken", b"\x93NUMPY junk", b"plain text"])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "r.npz"
    path.write_bytes(content)
    with pytest.raises(ValidationError, match=r"r\.npz: "):
        read_recording(path)


def test_foreign_entries_and_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", foreign=np.zeros(1))
    with pytest.raises(ValidationError, match="foreign entry"):
        read_recording(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{"a/logits": np.array([{}], dtype=object)})
    with pytest.raises(ValidationError, match="not a recording"):
        read_recording(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.zeros(1))
    with pytest.raises(ValidationError, match="not a recording"):
        read_recording(tmp_path / "c.npy")
