"""`lm/*`: ten registers under one encoder, near copies on one side, every token counted."""

from __future__ import annotations

import numpy as np
import pytest

from rankrepro import benchmarks
from rankrepro.benchmarks import lm, splits, texts, vital_lm
from rankrepro.errors import BenchmarkError

MIXED = "lm-mini/mixed"


@pytest.fixture(scope="module")
def mini_texts(sources):
    """Domain -> the texts of the mini benchmarks."""
    n = benchmarks.get(MIXED).params["texts"]
    return {domain: lm._read(domain, sources, n) for domain in lm.DOMAINS}


def test_every_domain_is_there_with_as_many_tokens(built, mini_texts):
    benchmark, truth, _ = built(MIXED)
    params = benchmarks.get(MIXED).params
    assert len(benchmark.train) == 10 * params["train_tokens"]
    assert benchmark.end == 0 and benchmark.train[0] == 0 and benchmark.vocabulary == params["vocabulary"]
    assert {name.split("/")[0] for name in benchmark.test} == set(lm.DOMAINS)
    assert truth.tokens == {name: len(tokens) for name, tokens in benchmark.test.items()}
    for name, tokens in [*benchmark.test.items(), *benchmark.validation.items()]:
        assert 0 < len(tokens) <= params["max_tokens"] and benchmark.end not in tokens and tokens.dtype == np.int32, (
            name
        )
    assert all(len(found) == params["texts"] for found in mini_texts.values())


def test_near_copies_stay_on_one_side_and_in_one_cluster(built, mini_texts):
    benchmark, truth, _ = built(MIXED)
    everything = {name: text for found in mini_texts.values() for name, text in found.items()}
    group = texts.kin(everything)
    test, validation = ({group[name] for name in side} for side in (benchmark.test, benchmark.validation))
    trained = {group[name] for name in everything if name not in benchmark.test and name not in benchmark.validation}
    assert not test & validation and not test & trained and not validation & trained
    assert len(test) < len(benchmark.test)  # there are near copies
    assert truth.clusters == {name: group[name] for name in benchmark.test}


def test_the_encoder_saw_training_texts_alone_and_spells_every_text(built, mini_texts):
    benchmark, _, _ = built(MIXED)
    params = benchmarks.get(MIXED).params
    everything = {name: text for found in mini_texts.values() for name, text in found.items()}
    held = {*benchmark.test, *benchmark.validation}
    encoder = vital_lm.train_encoder([t for n, t in everything.items() if n not in held], params["vocabulary"])
    for name, tokens in list(benchmark.test.items())[::20]:
        whole = encoder.encode(everything[name]).ids
        assert whole[: params["max_tokens"]] == tokens.tolist() and encoder.decode(whole) == everything[name]


def test_a_domain_is_a_part_of_all(built):
    mixed, film = built(MIXED)[0], built("lm-mini/film")[0]
    assert set(film.test) == {name for name in mixed.test if name.startswith("film/")}
    assert all(np.array_equal(mixed.test[name], tokens) for name, tokens in film.test.items())
    assert len(film.train) == benchmarks.get(film.id).params["train_tokens"]


def test_first_and_last(built):
    names = list(built(MIXED)[0].test)
    assert (names[0], names[-1]) == ("wikipedia/0112", "docs/xmlrpc/client.py:55")


def test_markup_of_the_sources_is_gone(mini_texts):
    assert not [t for t in mini_texts["chat"].values() if "agent_" in t]
    assert not [t for t in mini_texts["film"].values() if "preceding conversation" in t]
    assert all("def " in t for t in mini_texts["code"].values())


def test_what_is_chosen_first_is_not_what_is_trained_on(mini_texts):
    """Both go by hash: by one hash, the texts of a domain with many would all be in one split."""
    everything = {name: text for found in mini_texts.values() for name, text in found.items()}
    params = benchmarks.get(MIXED).params
    split = splits.assign("lm split", texts.kin(everything), params["shares"])
    for domain, found in mini_texts.items():
        tested = sum(split[name] == "test" for name in found) / len(found)
        assert params["shares"]["test"] / 2 < tested < params["shares"]["test"] * 2, domain


def test_a_domain_that_does_not_exist(sources):
    params = {**benchmarks.get(MIXED).params, "domain": "poems"}
    with pytest.raises(BenchmarkError, match="no domain 'poems'; choose among wikipedia, news"):
        lm.build("lm/poems", sources, params)
