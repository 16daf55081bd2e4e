"""`vital/lm`: articles held out whole, an encoder that saw the training articles alone, every token counted."""

from __future__ import annotations

import numpy as np
import pytest

from rankrepro import artifacts, benchmarks
from rankrepro.benchmarks import vital, vital_lm
from rankrepro.errors import BenchmarkError


@pytest.fixture(scope="module", params=["vital/lm", "vital-mini/lm"])
def lm(request, built):
    return built(request.param)


def articles_of(benchmark):
    """Training articles: the stream cut at its end tokens."""
    starts = np.flatnonzero(benchmark.train == benchmark.end)
    assert starts[0] == 0
    return np.split(benchmark.train, starts[1:])


def test_numbers(lm):
    benchmark, truth, _ = lm
    params = benchmarks.get(benchmark.id).params
    assert benchmark.vocabulary == params["vocabulary"] and benchmark.end == 0
    assert (len(benchmark.test), len(benchmark.validation)) == (1000, params["validation"])
    assert len(articles_of(benchmark)) == params.get("train", 10_033 - 1000 - 300)
    for tokens in [*benchmark.test.values(), *benchmark.validation.values()]:
        assert 0 < len(tokens) <= 256 and tokens.dtype == np.int32
        assert benchmark.end not in tokens and tokens.max() < benchmark.vocabulary
    assert truth.tokens == {a: len(t) for a, t in benchmark.test.items()}
    assert truth.clusters == {a: a for a in benchmark.test}


def test_no_article_is_on_two_sides(lm):
    benchmark, _, _ = lm
    assert not set(benchmark.test) & set(benchmark.validation)
    trained = {tuple(a[1:]) for a in articles_of(benchmark)}
    assert not [a for held in (benchmark.test, benchmark.validation) for a, t in held.items() if tuple(t) in trained]


def test_the_encoder_saw_the_training_articles_alone_and_spells_every_text(lm, sources):
    benchmark, _, _ = lm
    params = benchmarks.get(benchmark.id).params
    texts = vital.read_articles(sources["vital-articles"])
    split = vital_lm.assign(list(texts), params)
    encoder = vital_lm.train_encoder([texts[a].content for a in split["train"]], params["vocabulary"])
    for name, tokens in list(benchmark.test.items())[:50]:
        whole = encoder.encode(texts[name].content).ids
        assert whole[:256] == tokens.tolist()
        assert encoder.decode(whole) == texts[name].content


def test_mini_keeps_the_splits_of_its_parent(built):
    large, small = built("vital/lm")[0], built("vital-mini/lm")[0]
    assert set(small.test) == set(large.test) and set(small.validation) <= set(large.validation)


def test_the_disk_keeps_it_and_a_rebuild_is_byte_identical(built, tmp_path):
    _, _, folder = built("vital-mini/lm")
    again = benchmarks.build("vital-mini/lm", artifacts.cache_dir(), tmp_path / "again")
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert len(files) == 5
    assert [(again / f).read_bytes() for f in files] == [(folder / f).read_bytes() for f in files]


def test_a_split_that_leaves_nothing_to_train_on():
    with pytest.raises(BenchmarkError, match="leave none to train on"):
        vital_lm.assign(["a", "b"], {"test": 1, "validation": 1})
