"""The GGUF reader: reads what the gguf package writes, refuses everything damaged with one clear line."""

import struct

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from app.common.errors import ModelFormatError
from app.runtime.formats.ggml_types import BLOCK_SIZES, GgmlType
from app.runtime.formats.gguf import GgufFile


def write(path, *, tensors=None, extra=()):
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_uint32("answer", 42)
    writer.add_int32("negative", -7)
    writer.add_uint64("wide", 1 << 40)
    writer.add_float32("half", 0.5)
    writer.add_bool("yes", True)
    writer.add_string("words", "Grüße")
    writer.add_array("list", ["a", "", "ß" * 300])
    writer.add_array("numbers", [1, -2, 3])
    for key, value in extra:
        writer.add_string(key, value)
    for name, values in (tensors or {"m": np.arange(6, dtype=np.float32).reshape(2, 3)}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "valid.gguf"
    return write(path, tensors={"m": np.arange(6, dtype=np.float32).reshape(2, 3), "h": np.ones((4, 32), np.float16)})


def test_reads_metadata_of_every_kind(valid):
    with GgufFile(valid) as file:
        assert file.architecture == "phi3"
        assert {key: file.metadata[key] for key in ("answer", "negative", "wide", "half", "yes", "words")} == {
            "answer": 42,
            "negative": -7,
            "wide": 1 << 40,
            "half": 0.5,
            "yes": True,
            "words": "Grüße",
        }
        assert file.metadata["list"] == ["a", "", "ß" * 300]
        assert file.metadata["numbers"].tolist() == [1, -2, 3]
        assert "absent" not in file.metadata


def test_reads_tensors(valid):
    with GgufFile(valid) as file:
        assert list(file) == ["m", "h"]
        assert file["m"].float32().tolist() == [[0, 1, 2], [3, 4, 5]]
        assert (file["h"].type, file["h"].shape, file["h"].data.nbytes) == (GgmlType.F16, (4, 32), 256)
        assert file["h"].data.ctypes.data % 32 == 0
        with pytest.raises(ModelFormatError, match="tensor h is F16"):
            file["h"].float32()
        kept = file["m"].float32()
    assert kept.sum() == 15  # the map outlives the file object


def test_block_sizes_are_those_of_the_gguf_package():
    ours = {ggml_type.value: tuple(size) for ggml_type, size in BLOCK_SIZES.items()}
    theirs = {int(ggml_type): size for ggml_type, size in GGML_QUANT_SIZES.items() if int(ggml_type) in ours}
    assert ours == theirs
    assert {member.name: member.value for member in GgmlType}.items() <= {
        m.name: m.value for m in GGMLQuantizationType
    }.items()


def test_large_vocabulary(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "phi3")
    writer.add_array("tokens", [f"token {i}" for i in range(200_000)])
    writer.add_array("merges", [f"a{i} b{i}" for i in range(200_000)])
    writer.add_tensor("m", np.zeros(32, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    file = GgufFile(tmp_path / "v.gguf")
    assert file.metadata["tokens"][199_999] == "token 199999"


def patched(valid, tmp_path, offset, data):
    content = bytearray(valid.read_bytes())
    content[offset : offset + len(data)] = data
    path = tmp_path / "patched.gguf"
    path.write_bytes(content)
    return path


def find(valid, needle, skip=0):
    return valid.read_bytes().index(needle) + len(needle) + skip


@pytest.mark.parametrize(
    ("after", "skip", "data", "message"),
    [
        (b"", 0, b"GGML", "not a GGUF file"),
        (b"GGUF", 0, struct.pack("<I", 1), "GGUF version 1"),
        (b"GGUF", 0, struct.pack(">I", 3), "big-endian"),
        (b"GGUF", 4, struct.pack("<Q", 1 << 40), "tensor count"),
        (b"GGUF", 12, struct.pack("<Q", 1 << 60), "metadata count"),
        (b"general.architecture", -28, struct.pack("<Q", 1 << 63), "metadata key 0 is"),
        (b"general.architecture", -3, b"\xff", "metadata key 0 is not UTF-8"),
        (b"general.architecture", 0, struct.pack("<I", 77), "'general.architecture' has the unknown type 77"),
        (b"general.architecture", 4, struct.pack("<Q", 1 << 62), "ends inside metadata key 'general.architecture'"),
        (b"list", 4, struct.pack("<I", 9), "'list' has the unknown type 9"),
        (b"list", 8, struct.pack("<Q", 1 << 61), "'list' states"),
        (b"list", 16, struct.pack("<Q", 1 << 62), "ends inside metadata key 'list'"),
        (b"numbers", 8, struct.pack("<Q", 1 << 61), "ends inside metadata key 'numbers'"),
        (b"yes", 4, b"\x02", "neither true nor false"),
        (b"\x01\0\0\0\0\0\0\0m", -1, b"h", "'h' appears twice"),
        (b"\x01\0\0\0\0\0\0\0m", 0, struct.pack("<I", 0), "'m' has 0 dimensions"),
        (b"\x01\0\0\0\0\0\0\0m", 0, struct.pack("<I", 5), "'m' has 5 dimensions"),
        (b"\x01\0\0\0\0\0\0\0m", 4, struct.pack("<Q", 0), "'m' has the impossible shape"),
        (b"\x01\0\0\0\0\0\0\0m", 4, struct.pack("<QQ", 1 << 40, 1 << 40), "'m' has the impossible shape"),
        (b"\x01\0\0\0\0\0\0\0m", 4, struct.pack("<Q", 1 << 33), "cut off inside tensor 'm'"),
        (b"\x01\0\0\0\0\0\0\0m", 20, struct.pack("<I", 31), "'m' has the unknown type 31"),
        (b"\x01\0\0\0\0\0\0\0m", 20, struct.pack("<I", 8), "'m' of type Q8_0: a row of 3 values"),
        (b"\x01\0\0\0\0\0\0\0m", 24, struct.pack("<Q", 32), "'m' does not start where"),
        (b"\x01\0\0\0\0\0\0\0h", 24, struct.pack("<Q", 0), "'h' does not start where"),
        (b"\x01\0\0\0\0\0\0\0h", 24, struct.pack("<Q", 1 << 63), "'h' does not start where"),
    ],
)
def test_names_the_damaged_field(valid, tmp_path, after, skip, data, message):
    path = patched(valid, tmp_path, find(valid, after, skip), data)
    with pytest.raises(ModelFormatError, match=message) as error:
        GgufFile(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_duplicate_key(tmp_path):
    path = write(tmp_path / "x.gguf", extra=[("twin0", "a"), ("twin1", "b")])
    content = path.read_bytes().replace(b"twin1", b"twin0")
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="'twin0' appears twice"):
        GgufFile(path)


@pytest.mark.parametrize("alignment", [0, 7, 48, 1 << 20])
def test_impossible_alignment(tmp_path, alignment):
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_uint32("general.alignmenT", alignment)
    writer.add_tensor("m", np.zeros(32, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    path.write_bytes(path.read_bytes().replace(b"alignmenT", b"alignment"))
    with pytest.raises(ModelFormatError, match=r"general.alignment is"):
        GgufFile(path)


def test_text_that_is_not_utf8_is_an_error_on_access(valid, tmp_path):
    path = patched(valid, tmp_path, find(valid, "Grü".encode(), -2), b"\xff\xff")
    file = GgufFile(path)
    with pytest.raises(ModelFormatError, match="metadata key words is not UTF-8"):
        file.metadata["words"]


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b""), lambda p: p.mkdir(), lambda p: None])
def test_no_file_no_bytes_no_folder(tmp_path, make):
    path = tmp_path / "x.gguf"
    make(path)
    with pytest.raises(ModelFormatError, match=r"x\.gguf cannot be read"):
        GgufFile(path)


def test_every_truncation_is_refused(valid, tmp_path):
    content = valid.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in range(1, len(content) - 1, 3):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFormatError):
            GgufFile(path)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_mutations_never_do_worse_than_a_format_error(valid, tmp_path_factory, data):
    content = bytearray(valid.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        patch = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.sampled_from([0, 1, 8, 9, 255, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 64) - 1]).map(
                    lambda n: struct.pack("<Q", n)
                ),
            )
        )
        content[at : at + len(patch)] = patch[: len(content) - at]
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        file = GgufFile(path)
        for key in file.metadata:
            file.metadata[key]
        assert sum(tensor.data.nbytes for tensor in file.values()) <= len(content)
    except ModelFormatError as error:
        assert str(path) in str(error)  # noqa: PT017 - most mutations are refused, some are harmless
