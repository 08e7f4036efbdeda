from __future__ import annotations

import json
import time

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from app.common.errors import ModelFormatError
from app.runtime.language.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_json):
    return Tokenizer(tiny_tokenizer_json)


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_survives_the_way_to_ids_and_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text(alphabet=st.sampled_from("aé日😀 ")), cut=st.data())
def test_streamed_pieces_are_whole_characters_and_join_to_the_text(tokenizer, text, cut):
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert "".join(pieces) == text
    assert "�" not in "".join(pieces)
    assert stream.finish() == ""


def test_half_a_character_waits_for_its_rest(tokenizer):
    ids = tokenizer.encode("語")
    assert len(ids) > 1, "the test needs a character of several ids"
    stream = tokenizer.stream()
    assert [stream.push(token) for token in ids] == [""] * (len(ids) - 1) + ["語"]


def test_a_character_cut_at_the_end_is_marked_as_in_decode(tokenizer):
    ids = tokenizer.encode("語")[:-1]
    stream = tokenizer.stream()
    text = "".join(map(stream.push, ids)) + stream.finish()
    assert text == tokenizer.decode(ids)


def test_typed_special_tokens_are_plain_text(tokenizer, tiny_tokenizer_json):
    added = {token["content"]: token["id"] for token in json.loads(tiny_tokenizer_json)["added_tokens"]}
    for text, special in added.items():
        ids = tokenizer.encode(f"a{text}b")
        assert special not in ids
        assert tokenizer.decode(ids) == f"a{text}b"


def test_a_special_token_inside_the_vocabulary_cannot_be_typed_either(tiny_tokenizer_json):
    parsed = json.loads(tiny_tokenizer_json)
    parsed["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    parsed["model"]["ignore_merges"] = True
    for token in parsed["added_tokens"]:
        parsed["model"]["vocab"][token["content"]] = token["id"]
    end = next(token for token in parsed["added_tokens"] if token["content"] == "<|end|>")
    without_care = tokenizers.Tokenizer.from_str(json.dumps({**parsed, "added_tokens": []}))
    assert without_care.encode("<|end|>").ids == [end["id"]]
    assert end["id"] not in Tokenizer(json.dumps(parsed)).encode("<|end|>")


def test_special_tokens_are_hidden_and_tool_tags_are_shown(tokenizer):
    assert tokenizer.decode([381, 386, 399, 100000]) == ""
    assert tokenizer.decode([391, *tokenizer.encode("x"), 393]) == "<|tool|>x<|tool_end|>"


def test_lone_surrogates_become_replacement_characters_and_pairs_are_joined(tokenizer):
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a�b")
    assert tokenizer.encode("\ud83d\ude00") == tokenizer.encode("😀")


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "lorem ipsum " * 90_000, "日本" * 300_000])
def test_a_megabyte_is_encoded_in_reasonable_time(tokenizer, text):
    start = time.process_time()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert time.process_time() - start < 60, "quadratic: tokenising has to stay near linear"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": {}, "pre_tokenizer": null, "decoder": null}'])
def test_what_is_not_a_byte_level_tokenizer_is_refused(text):
    with pytest.raises(ModelFormatError, match=r"x\.gguf"):
        Tokenizer(text, "x.gguf")


def test_a_damaged_vocabulary_is_refused(tiny_tokenizer_json):
    parsed = json.loads(tiny_tokenizer_json)
    parsed["model"]["merges"] = [["no", "such"]]
    with pytest.raises(ModelFormatError, match="cannot be read"):
        Tokenizer(json.dumps(parsed))
