from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from tiny_language import CONTEXT_TOKENS, N_VOCAB, ORIGINAL_TOKENS, TOKEN_IDS

from app.common.errors import ConfigError, NativeCallError
from app.runtime.language.context import CancelFlag, ContextOptions, LanguageContext
from app.runtime.language.grammar import grammar_of_schema
from app.runtime.language.model import LanguageModel, RopeLengths
from app.runtime.language.sampling import Sampler, SamplingOptions
from app.runtime.language.tokenizer import Tokenizer

STOPS = (TOKEN_IDS.end, TOKEN_IDS.endoftext)


@pytest.fixture(scope="module")
def model(language_path):
    with LanguageModel(language_path, RopeLengths(ORIGINAL_TOKENS, CONTEXT_TOKENS)) as loaded:
        yield loaded


@pytest.fixture
def context(model):
    options = ContextOptions(exact=True, chunk_tokens=32, n_threads=1)
    with LanguageContext(model, 256, options, CancelFlag()) as context:
        context.decode(np.array([1, 2, 3], np.int32), 1)
        yield context


def draw(model, context, n, **options):
    with Sampler(model, SamplingOptions(**options)) as sampler:
        return [sampler.sample(context) for _ in range(n)]


def answer(model, context, n, **options):
    with Sampler(model, SamplingOptions(**options)) as sampler:
        ids = []
        while len(ids) < n and (not ids or ids[-1] not in STOPS):
            ids.append(sampler.sample(context))
            context.decode_token(ids[-1])
        return ids


def test_the_default_takes_the_largest_logit(model, context):
    best = int(context.logits()[0].argmax())
    assert draw(model, context, 3) == [best] * 3
    assert draw(model, context, 1, temperature=1.0, top_k=1) == [best]
    assert draw(model, context, 1, temperature=0.0, repeat_penalty=1.0001) == [best]


def test_draws_follow_the_distribution(model, context):
    logits = context.logits()[0].astype(np.float64)
    temperature = float(np.std(logits))  # flat enough for many different tokens
    expected = np.exp((logits - logits.max()) / temperature)
    expected /= expected.sum()
    counts = Counter(draw(model, context, 20_000, temperature=temperature, seed=7))
    found = np.array([counts[token] for token in range(N_VOCAB)]) / 20_000
    assert np.abs(found - expected).max() < 5 * np.sqrt(expected.max() / 20_000)


def test_a_seed_repeats_its_draws(model, context):
    options = {"temperature": 20.0, "top_k": 50}
    assert draw(model, context, 20, seed=1, **options) == draw(model, context, 20, seed=1, **options)
    assert draw(model, context, 20, seed=1, **options) != draw(model, context, 20, seed=2, **options)


def test_filters_keep_only_likely_tokens(model, context):
    logits = context.logits()[0].astype(np.float64)
    order = np.argsort(-logits)
    assert set(draw(model, context, 300, temperature=50.0, top_k=3)) == set(order[:3].tolist())
    probabilities = np.exp(logits - logits.max())
    allowed = set(np.flatnonzero(probabilities >= 0.05).tolist())
    assert set(draw(model, context, 300, temperature=50.0, min_p=0.05)) <= allowed
    cumulative = np.cumsum(probabilities[order] / probabilities.sum())
    kept = set(order[: int(np.searchsorted(cumulative, 0.9)) + 1].tolist())
    assert set(draw(model, context, 300, temperature=50.0, top_p=0.9)) <= kept


def test_a_repeat_penalty_changes_what_repeats(model, context):
    assert len(set(draw(model, context, 8))) == 1
    assert len(set(draw(model, context, 8, repeat_penalty=100.0))) > 1


SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer"}},
    "required": ["colour", "count"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("options", [{}, {"temperature": 5.0, "seed": 3}, {"temperature": 1.0, "top_k": 40, "seed": 4},
                                     {"repeat_penalty": 1.5}])  # fmt: skip
def test_a_schema_forces_the_answer_into_its_form(model, context, tiny_tokenizer_json, options):
    ids = answer(model, context, 200, grammar=grammar_of_schema(SCHEMA), **options)
    assert ids[-1] in STOPS
    parsed = json.loads(Tokenizer(tiny_tokenizer_json).decode(ids))
    assert set(parsed) == {"colour", "count"}
    assert parsed["colour"] in ("red", "green")
    assert type(parsed["count"]) is int


def test_a_grammar_written_by_hand_works_too(model, context, tiny_tokenizer_json):
    ids = answer(model, context, 50, grammar='root ::= "yes" | "日本"')
    assert Tokenizer(tiny_tokenizer_json).decode(ids) in ("yes", "日本")
    assert ids[-1] in STOPS


@pytest.mark.parametrize("grammar", ["", "  ", "root ::= (", "other ::= [a-z]", "root ::= root"])
def test_a_broken_grammar_is_refused(model, grammar):
    with pytest.raises(ConfigError, match="grammar"):
        Sampler(model, SamplingOptions(grammar=grammar))


@pytest.mark.parametrize("schema", ["", "{", "[]", "3", {"$ref": "#/nowhere"}, {"type": "no such type"}])
def test_a_broken_schema_is_refused(schema):
    with pytest.raises(ConfigError, match="schema"):
        grammar_of_schema(schema)


OUT_OF_RANGE = [
    ("temperature", -1), ("temperature", float("nan")), ("top_p", 1.5), ("top_k", -1), ("min_p", -0.1),
    ("repeat_penalty", 0), ("seed", -1), ("seed", 2**32),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_an_option_out_of_range_is_refused(model, name, value):
    with pytest.raises(ConfigError, match=name):
        Sampler(model, SamplingOptions(**{name: value}))


def test_logits_that_are_no_numbers_are_an_error(model, context):
    context.logits()[0, 17] = np.nan
    with pytest.raises(NativeCallError, match="not"):
        draw(model, context, 1)
