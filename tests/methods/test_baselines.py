"""Each control against an independent computation of the same thing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from methods import baselines
from methods.parts import llm
from methods.parts.listwise import Listwise, Window
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import Cell, Facts, Meter, Ranking
from rankrepro.errors import ConfigError

MakeCell = Callable[..., Cell]


@torch.inference_mode()
def plain(lm: Any, tokens: list[int]) -> torch.Tensor:
    """Logits [tokens, vocabulary] of one sequence, no cache, no padding."""
    return lm.model(torch.tensor([tokens]), use_cache=False).logits[0]


# --- first stages ----------------------------------------------------------------------------------------------------


def test_bm25_is_the_formula(make_cell: MakeCell) -> None:
    """Lucene's BM25 by hand: stopwords gone, `rivers` and `river` one stem."""
    texts = ["river river bank", "the bank of money", "rivers and a long cold winter night"]
    words = [["river", "river", "bank"], ["bank", "money"], ["river", "long", "cold", "winter", "night"]]
    corpus = {f"d{i}": Document(f"d{i}", "", text) for i, text in enumerate(texts)}
    k1, b, average = 0.9, 0.4, sum(map(len, words)) / 3

    def score(query: list[str], document: list[str]) -> float:
        total = 0.0
        for t in query:
            df, tf = sum(t in w for w in words), document.count(t)
            idf = math.log(1 + (3 - df + 0.5) / (df + 0.5))
            total += idf * tf / (tf + k1 * (1 - b + b * len(document) / average))
        return total

    cell = make_cell(
        {"q1": "the river", "q2": "money banks"}, {}, benchmark=Benchmark("b", {}, corpus), k1=k1, b=b, k=3
    )
    found = baselines.bm25(cell).checked(cell).values
    for q, query in (("q1", ["river"]), ("q2", ["money", "bank"])):
        assert found[q] == pytest.approx({f"d{i}": score(query, w) for i, w in enumerate(words)}, abs=2e-5)


def test_bm25_keeps_k_skips_excluded_and_breaks_ties_by_id(make_cell: MakeCell) -> None:
    corpus = {d: Document(d, "", "same words") for d in ("d3", "d1", "d2")}
    cell = make_cell({"q": "words"}, {}, benchmark=Benchmark("b", {}, corpus), k1=0.9, b=0.4, k=2)
    assert list(baselines.bm25(cell).checked(cell).values["q"]) == ["d1", "d2"]
    cell.benchmark = replace(cell.benchmark, queries={"q": Query("q", "words", "test", excluded=("d1",))})
    assert list(baselines.bm25(cell).checked(cell).values["q"]) == ["d2", "d3"]


@pytest.mark.parametrize("query", ["of the", "unheard", "   "])
def test_bm25_of_a_query_without_a_known_word(make_cell: MakeCell, query: str) -> None:
    cell = make_cell({"q": query, "p": f"{query} river"}, {}, k1=0.9, b=0.4, k=2)
    found = baselines.bm25(cell).checked(cell).values
    assert found["q"] == {"d0": 0, "d1": 0} and min(found["p"].values()) > 0


def test_dense_is_mean_pooling(make_cell: MakeCell, encoder: Any) -> None:
    """Against transformers one text at a time: mean over tokens, cut at max_tokens, unit length."""
    params = {"max_tokens": 8, "batch": 3}
    cell = make_cell(candidates={}, models={"encoder": encoder}, k=4, **params)
    seen = []
    cell.progress = lambda done, total: seen.append((done, total))
    arrays = baselines.encode_corpus(cell)
    assert seen == [(3, 7), (6, 7), (7, 7)]
    cell.inputs = {"embeddings": arrays}
    found = baselines.dense(cell).checked(cell).values

    @torch.inference_mode()
    def embed(text: str) -> np.ndarray:
        tokens = encoder.tokenizer(text, truncation=True, max_length=8, return_tensors="pt")
        mean = encoder.model(**tokens).last_hidden_state[0].mean(0)
        return (mean / mean.norm()).numpy()

    corpus = {d: embed(document.content) for d, document in cell.benchmark.corpus.items()}
    np.testing.assert_allclose(arrays["embeddings"], np.stack(list(corpus.values())), atol=1e-5)
    for q, text in cell.queries.items():
        expected = sorted(((embed(text) @ v, d) for d, v in corpus.items()), reverse=True)[:4]
        assert found[q] == pytest.approx({d: float(s) for s, d in expected}, abs=2e-5)


# --- floors ----------------------------------------------------------------------------------------------------------


def test_floors(make_cell: MakeCell) -> None:
    cell = make_cell({"q": "x"}, {"q": ["d2", "d0", "d1"]})
    assert list(baselines.identity(cell).checked(cell).values["q"]) == ["d2", "d0", "d1"]
    assert list(baselines.constant(cell).checked(cell).values["q"]) == ["d0", "d1", "d2"]


def test_random_is_fixed_per_seed_and_query(make_cell: MakeCell) -> None:
    def order(q: str, seed: int, docs: list[str]) -> list[str]:
        cell = make_cell({q: "x"}, {q: docs}, seed=seed)
        return list(baselines.random(cell).checked(cell).values[q])

    docs = [f"d{i}" for i in range(7)]
    # written down: another process, day or machine draws the same
    assert order("q1", 0, docs) == GOLDEN_RANDOM
    assert order("q1", 0, docs[::-1]) == GOLDEN_RANDOM
    assert sorted(order("q2", 0, docs)) == docs
    assert len({tuple(order(q, seed, docs)) for q in ("q1", "q2") for seed in (0, 1)}) == 4


GOLDEN_RANDOM = ["d0", "d1", "d3", "d2", "d6", "d4", "d5"]


# --- pointwise -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def short() -> dict[str, list[str]]:
    """Candidates of q1: short, long and untitled passages."""
    return {"q1": ["d5", "d1", "d6"]}


def pointwise_cell(make_cell: MakeCell, lm: Any, docs: dict[str, list[str]], query: str, decoy: str = "x") -> Cell:
    cell = make_cell({"q1": query}, docs, models={"llm": lm}, passage_tokens=12, placebo=True)
    cell.decoys = {"q1": decoy}
    return cell


def test_query_likelihood_and_yes_no_are_the_models_own(make_cell: MakeCell, lm: Any, short: Any) -> None:
    query = "which river flows through germany"
    cell = pointwise_cell(make_cell, lm, short, query, "board games")
    found = {v: o.checked(cell).values["q1"] for v, o in baselines.pointwise(cell).items()}
    assert set(found) == {"pointwise", "query_likelihood", "query_likelihood_decoy"}
    ids = lambda text: lm.tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    message = [{"role": "user", "content": "@"}]
    chat = lm.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    before, after = map(ids, chat.split("@"))
    words = [[ids(form)[0] for form in forms if len(ids(form)) == 1] for forms in (baselines.YES, baselines.NO)]
    for d in short["q1"]:
        passage = ids(" " + cell.document(d).content)[:12]
        start = [*before, *ids("Passage:"), *passage]

        for variant, text in (("query_likelihood", query), ("query_likelihood_decoy", "board games")):
            given = [*start, *ids(baselines.WRITE), *after]
            labels = torch.tensor([[-100] * len(given) + ids(text)])
            with torch.inference_mode():
                loss = lm.model(torch.tensor([given + ids(text)]), labels=labels).loss.item()
            assert found[variant][d] == pytest.approx(-loss, abs=1e-3)

        z = plain(lm, [*start, *ids("\nQuery:"), *ids(" " + query), *ids(baselines.JUDGE), *after])[-1].exp()
        yes, no = (z[list(set(tokens))].sum() for tokens in words)
        assert found["pointwise"][d] == pytest.approx((yes / no).log().item(), abs=1e-3)


def test_the_placebo_is_query_likelihood_of_the_decoy(make_cell: MakeCell, lm: Any, short: Any) -> None:
    one = baselines.pointwise(pointwise_cell(make_cell, lm, short, "which river", "board games"))
    two = baselines.pointwise(pointwise_cell(make_cell, lm, short, "board games"))
    expected = two["query_likelihood"].values["q1"]
    assert one["query_likelihood_decoy"].values["q1"] == pytest.approx(expected, abs=1e-4)


def test_pointwise_counts_every_token_it_feeds(make_cell: MakeCell, lm: Any, short: Any, monkeypatch: Any) -> None:
    fed = []
    read = llm.Context.read
    monkeypatch.setattr(
        llm.Context, "read", lambda self, rows, **kw: fed.append(sum(map(len, rows))) or read(self, rows, **kw)
    )
    cell = pointwise_cell(make_cell, lm, short, "which river flows", "board games")
    baselines.pointwise(cell)
    _shared, *rest = fed  # the shared beginning belongs to the cell
    assert cell.meter.units["q1"]["input_tokens"] == sum(rest)
    assert cell.meter.units["q1"]["forward_passes"] == len(rest)


# --- listwise generation ---------------------------------------------------------------------------------------------

LISTWISE = {"passage_tokens": 10, "window": 4, "step": 2, "stop": "natural"}


def listwise(make_cell: MakeCell, lm: Any, decoding: list[str], batch: int = 3, **params: Any) -> tuple[Cell, Any]:
    docs = {"q1": ["d5", "d1", "d0", "d2", "d6", "d3"], "q2": ["d4", "d0", "d1"], "q3": ["d6", "d5", "d4", "d3", "d2"]}
    cell = make_cell(candidates=docs, models={"llm": lm}, decoding=decoding, batch=batch, **{**LISTWISE, **params})
    return cell, baselines.rankgpt(cell)


@pytest.fixture(scope="module")
def window(benchmark_: Benchmark) -> Window:
    return Window("q", "which river flows through germany", tuple(benchmark_.corpus[f"d{i}"] for i in (1, 5, 2, 0)))


def test_constrained_equals_step_by_step(lm: Any, window: Window) -> None:
    """Uncached: read prompt and answer so far anew for every identifier, take the likeliest letter left."""
    prompts = Listwise(lm, Meter(), 10)
    others = Window("p", "board games", window.documents[:3])
    windows = [others, window]
    context, _ = prompts.read(windows)
    found = prompts.constrained(context, windows)
    before = llm.turn(lm)[0]
    for one, answer in zip(windows, found, strict=True):
        said, left = "[", "ABCD"[: len(one.documents)]
        while left:
            z = plain(lm, [*before, *prompts.prompt(one), *llm.ids(lm, said)])[-1]
            # the token after the bracket, read off the whole answer so far with this letter
            best = max(left, key=lambda c: z[llm.ids(lm, f"{said}{c}]")[len(llm.ids(lm, said))]].item())
            left = left.replace(best, "")
            said += f"{best}] > ["
        assert ["ABCD"[i] for i in answer] == re.findall(r"\[(.)\]", said)


def test_free_equals_generate(lm: Any, window: Window) -> None:
    prompts = Listwise(lm, Meter(), 10)
    windows = [Window("p", "board games", window.documents[:3]), window]
    before = llm.turn(lm)[0]
    for stop, least in (("natural", 0), ("length", 4 * 4 - 1)):
        context, last = prompts.read(windows)
        found = prompts.free(context, last, windows, stop)
        tokens = torch.tensor([[*before, *prompts.prompt(window)]])
        with torch.inference_mode():
            answer = lm.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), do_sample=False,
                min_new_tokens=least or None, max_new_tokens=least or 20,
            )[0, tokens.shape[1] :]  # fmt: skip
        expected = ["ABCD".find(c) for c in re.findall(r"\[([A-Z])\]", lm.tokenizer.decode(answer))]
        assert found[1] == expected[: len(found[1])]
        assert len(found[1]) == len(expected) or sorted(found[1]) == [0, 1, 2, 3]  # shorter only where complete


def test_prompt_names_every_passage_once(lm: Any, window: Window) -> None:
    text = lm.tokenizer.decode(Listwise(lm, Meter(), 100).prompt(window))
    assert re.findall(r"\n\[(.)\] (\w+)", text) == [("A", "Chess"), ("B", "Rhine"), ("C", "Paris"), ("D", "Danube")]
    assert text.count(window.query) == 2 and "France (2)," in text


def test_sharing_prompts_changes_no_result(make_cell: MakeCell, lm: Any) -> None:
    """Both variants at once, in batches, equal each alone, query by query; and cost fewer tokens."""
    cell, both = listwise(make_cell, lm, ["constrained", "free"])
    tokens = 0.0
    for decoding in ("constrained", "free"):
        alone, outputs = listwise(make_cell, lm, [decoding], batch=1)
        for variant, output in outputs.items():
            assert output.values == both[variant].values
            if isinstance(output, Ranking):
                output.checked(alone)
        tokens += sum(unit["input_tokens"] for unit in alone.meter.units.values())
    assert sum(unit["input_tokens"] for unit in cell.meter.units.values()) < 0.8 * tokens
    assert set(both) == {"rankgpt", "rankgpt_free", "rankgpt_malformed"}
    assert isinstance(both["rankgpt_malformed"], Facts) and set(both["rankgpt_malformed"].values) == set(cell.queries)


def test_a_constrained_answer_is_always_a_permutation(lm: Any, window: Window) -> None:
    """The identity that the card claims: whatever the prompt, every identifier comes exactly once."""
    prompts = Listwise(lm, Meter(), 4)
    windows = [Window(str(n), query, window.documents[:n]) for n, query in enumerate(("", "]", "[A] > [A]", "x"), 1)]
    context, _ = prompts.read(windows)
    for one, answer in zip(windows, prompts.constrained(context, windows), strict=True):
        assert sorted(answer) == list(range(len(one.documents)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"decoding": ["constraint"]}, "unknown decoding 'constraint'; did you mean 'constrained'"),
        ({"stop": "eos"}, "unknown stop 'eos'; known: length, natural"),
        ({"window": 27}, "window 27, step 2: need 0 < step <= window <= 26"),
        ({"step": 5}, "window 4, step 5"),
    ],
)
def test_impossible_parameters_are_named(make_cell: MakeCell, lm: Any, params: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        listwise(make_cell, lm, **{"decoding": ["free"], **params})


def test_a_killed_cell_resumes(make_cell: MakeCell, lm: Any, tmp_path: Any, monkeypatch: Any) -> None:
    cell, whole = listwise(make_cell, lm, ["constrained"], batch=1)
    cell.shards = tmp_path
    baselines.rankgpt(cell)
    lines = (tmp_path / "units.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "units.jsonl").write_text(lines[0] + lines[1][:30])  # killed while writing the second batch
    asked = []
    prompt = Listwise.prompt
    monkeypatch.setattr(Listwise, "prompt", lambda self, window: asked.append(window.unit) or prompt(self, window))
    assert baselines.rankgpt(cell)["rankgpt"].values == whole["rankgpt"].values
    assert set(asked) == {"q2", "q3"}
