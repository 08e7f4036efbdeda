from __future__ import annotations

import threading

import numpy as np
import pytest
from language_reference import Reference, relative_error
from tiny_language import CONTEXT_TOKENS, N_EMBD, N_VOCAB, ORIGINAL_TOKENS, TOKEN_IDS, write_adapter, write_language

from app.common.errors import Cancelled, ContextOverflowError, ModelFormatError, NativeCallError
from app.runtime.language.context import CancelFlag, ContextOptions, LanguageContext, chunk_for, default_threads
from app.runtime.language.model import LanguageModel, RopeLengths, padded

LENGTHS = RopeLengths(ORIGINAL_TOKENS, CONTEXT_TOKENS)
EXACT = ContextOptions(exact=True, chunk_tokens=64, n_threads=1, output_rows=64)


@pytest.fixture(scope="module")
def model(language_path, adapter_paths):
    with LanguageModel(language_path, LENGTHS, adapters=adapter_paths) as loaded:
        yield loaded


def make(model, n_tokens=256, options=EXACT, adapter=None):
    return LanguageContext(model, n_tokens, options, CancelFlag(), adapter)


def random_ids(n, seed=0):
    return np.random.default_rng(seed).integers(0, 370, n).astype(np.int32)


def logits_of(context, rows, chunk=64):
    """Logits of every row, computed in chunks of one kind."""
    collected, begin = [], 0
    while begin < len(rows):
        end = begin
        while end < len(rows) and end - begin < chunk and np.ndim(rows[end]) == np.ndim(rows[begin]):
            end += 1
        kind = np.int32 if np.ndim(rows[begin]) == 0 else np.float32
        context.decode(np.ascontiguousarray(np.stack(rows[begin:end]), dtype=kind), end - begin)
        collected.append(context.logits(end - begin).copy())
        begin = end
    return np.concatenate(collected)


@pytest.mark.parametrize("adapter", [None, "speech", "vision"])
@pytest.mark.parametrize(("capacity", "long"), [(256, False), (512, True)])
def test_logits_are_those_of_the_reference(model, adapter_paths, adapter, capacity, long):
    rows = list(random_ids(90))
    reference = Reference(model.path, adapter_paths.get(adapter))
    with make(model, capacity, adapter=adapter) as context:
        error = relative_error(logits_of(context, rows), reference.logits(rows, long=long))
    assert error < 1e-4
    with make(model, capacity, adapter=adapter) as context:
        other = relative_error(logits_of(context, rows), reference.logits(rows, long=not long))
    assert other > 1e-2, "the test cannot tell the regimes apart"


def test_embedding_rows_and_tokens_mix_in_one_sequence(model):
    generator = np.random.default_rng(5)
    media = list(generator.standard_normal((20, N_EMBD)).astype(np.float32) * 3)
    rows = [*random_ids(7), *media, *random_ids(9, 1), *media[:3]]
    with make(model) as context:
        found = logits_of(context, rows, chunk=8)
    assert relative_error(found, Reference(model.path).logits(rows, long=False)) < 1e-4


@pytest.mark.parametrize("original", [1, 96, 255, 256, 257])
def test_the_regime_follows_the_true_original_length_whatever_its_padding(tmp_path, original):
    path = write_language(tmp_path / "m.gguf", **{"phi3.rope.scaling.original_context_length": original})
    lengths = RopeLengths(original, CONTEXT_TOKENS)
    ids = list(random_ids(12))
    reference = Reference(path)
    with LanguageModel(path, lengths) as model:
        for capacity, long in ((padded(original), False), (padded(original) + 1, True)):
            with make(model, capacity) as context:
                assert relative_error(logits_of(context, ids), reference.logits(ids, long=long)) < 1e-4
    assert not lengths.is_long(original)
    assert lengths.is_long(original + 1)


def test_forgotten_rows_leave_no_trace(model):
    first, second = list(random_ids(40, 1)), list(random_ids(30, 2))
    with make(model) as context:
        logits_of(context, first)
        context.forget(25)
        found = logits_of(context, second)
        context.forget(0)
        fresh = logits_of(context, first[:25] + second)
    np.testing.assert_allclose(found, fresh[25:], atol=1e-4)


def test_single_tokens_compute_as_chunks_do(model):
    ids = random_ids(20, 3)
    with make(model) as context:
        together = logits_of(context, list(ids))
        context.forget(0)
        singles = []
        for token in ids:
            context.decode_token(int(token))
            singles.append(context.logits()[0].copy())
    np.testing.assert_allclose(singles, together, atol=1e-4)


def test_a_copy_of_the_rows_continues_as_the_original(model):
    ids, more = list(random_ids(40, 1)), list(random_ids(10, 2))
    with make(model, 256) as small, make(model, 256) as other:
        logits_of(small, ids)
        other.copy_rows_from(small)
        assert other.n_tokens == 40
        np.testing.assert_allclose(logits_of(other, more), logits_of(small, more), atol=1e-5)


def test_cancel_stops_within_a_chunk_and_leaves_the_sequence_as_it_was(model):
    flag = CancelFlag()
    with LanguageContext(model, 512, EXACT, flag) as context:
        expected = logits_of(context, list(random_ids(40)))
        context.forget(20)
        flag.set()
        with pytest.raises(Cancelled):
            context.decode(random_ids(40)[20:], 20)
        assert context.n_tokens == 20
        flag.clear()
        np.testing.assert_allclose(logits_of(context, list(random_ids(40)[20:])), expected[20:], atol=1e-4)


def decode_again_and_again(context, rows):
    for _ in range(200):
        context.forget(0)
        context.decode(rows)


def test_cancel_from_another_thread_interrupts_a_running_chunk(model):
    flag = CancelFlag()
    options = ContextOptions(exact=True, chunk_tokens=1024, n_threads=1)
    rows = np.zeros(1024, np.int32)
    with LanguageContext(model, len(rows), options, flag) as context:
        timer = threading.Timer(0.2, flag.set)
        timer.start()
        with pytest.raises(Cancelled):
            decode_again_and_again(context, rows)
        timer.join()
        assert context.n_tokens == 0, "the chunk that was running did not count"


def test_a_full_context_says_so_and_keeps_its_rows(model):
    with make(model, 256) as context:
        for _ in range(4):
            context.decode(random_ids(64))
        with pytest.raises(ContextOverflowError, match="256 tokens is full"):
            context.decode_token(1)
        assert context.n_tokens == 256


def test_an_impossible_token_is_a_typed_error_and_the_context_lives_on(model):
    with make(model) as context:
        context.decode(random_ids(10))
        with pytest.raises(NativeCallError, match="llama_decode"):
            context.decode_token(N_VOCAB)
        assert context.n_tokens == 0
        context.decode(random_ids(10), 1)
        assert np.isfinite(context.logits()).all()


@pytest.mark.parametrize("rows", [np.zeros((2, N_EMBD - 1), np.float32), np.zeros((2, 2), np.int32), np.zeros(3),
                                  np.zeros(65, np.int32), np.zeros((4, 2 * N_EMBD), np.float32)[:, ::2]])  # fmt: skip
def test_rows_of_a_wrong_shape_never_reach_native_code(model, rows):
    with make(model) as context, pytest.raises(ValueError, match="rows"):
        context.decode(rows)


def test_more_logits_than_there_is_room_for_never_reach_native_code(model):
    options = ContextOptions(chunk_tokens=64, output_rows=4)
    with make(model, options=options) as context, pytest.raises(ValueError, match="5 rows of logits"):
        context.decode(random_ids(10), 5)


def test_a_missing_adapter_is_named(model, language_path):
    with LanguageModel(language_path, LENGTHS) as bare, pytest.raises(ModelFormatError, match="no speech adapter"):
        make(bare, adapter="speech")


def test_an_adapter_of_another_model_is_refused(tmp_path, language_path, monkeypatch):
    import tiny_language

    monkeypatch.setattr(tiny_language, "N_EMBD", 32)
    foreign = write_adapter(tmp_path / "foreign.gguf", 9)
    with (
        LanguageModel(language_path, LENGTHS, adapters={"speech": foreign}) as model,
        pytest.raises(ModelFormatError, match=r"foreign\.gguf: not an adapter of this model.*shape"),
    ):
        make(model, adapter="speech")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "language.gguf"
    path.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ModelFormatError, match=r"language\.gguf: the language model cannot be loaded: .+"):
        LanguageModel(path, LENGTHS)


@pytest.mark.parametrize("metadata", [{}, {"phi3.context_length": 0}, {"phi3.context_length": 50},
                                      {"phi3.rope.scaling.original_context_length": "x"}])  # fmt: skip
def test_impossible_lengths_are_refused(metadata):
    complete = {"phi3.context_length": 700, "phi3.rope.scaling.original_context_length": 96}
    values = {**complete, **metadata} if metadata else {}
    with pytest.raises(ModelFormatError, match=r"m\.gguf"):
        RopeLengths.from_metadata(values, "m.gguf")
    assert RopeLengths.from_metadata(complete, "m.gguf") == LENGTHS


def test_chunks_shrink_in_long_contexts_so_that_scores_stay_small():
    options = ContextOptions(chunk_tokens=256)
    assert [chunk_for(n, options) for n in (100, 4096, 16384, 131072, 2**20)] == [256, 256, 256, 32, 16]
    assert chunk_for(131072, ContextOptions(chunk_tokens=256, flash_attention=True)) == 256
    assert chunk_for(131072, ContextOptions(chunk_tokens=5)) == 5


def test_the_number_of_threads_is_what_the_process_may_use():
    assert 1 <= default_threads() <= 16
    assert ContextOptions(n_threads=3).threads == 3


def test_special_ids_decode_as_ordinary_rows(model):
    with make(model) as context:
        context.decode(np.array([TOKEN_IDS.user, TOKEN_IDS.image], np.int32), 2)
        assert np.isfinite(context.logits(2)).all()
