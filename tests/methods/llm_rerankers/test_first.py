"""FIRST: the losses, cached states against the whole model, where s is read, feedback, and a run from end to end."""

from __future__ import annotations

import math
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from cells import make_cell
from scipy.stats import kendalltau
from tokenizers_support import qwen2, with_tokenizer

from methods.controls import first_stages, listwise
from methods.llm_rerankers import first
from methods.llm_rerankers.first import Lesson, Windows, agreement, kendall, objective, ranks_of
from methods.parts.language import llm
from methods.parts.language.listwise import Listwise, Window
from methods.parts.language.windows import LETTERS
from methods.parts.retrieval.feedback import refine
from methods.parts.training.llm_tops import Top, installed, truncated
from methods.parts.training.loop import Recipe
from methods.parts.training.rankloss import LOSSES, listnet, ranknet, weighted_ranknet
from methods.parts.training.weights import arrays, load
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.cell import MODEL, Cell

# --- the losses ------------------------------------------------------------------------------------------------------


def lists(b: int = 3, m: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    s = torch.randn(b, m, generator=rng, dtype=torch.float64)
    return s, torch.stack([torch.randperm(m, generator=rng) + 1 for _ in range(b)])


def test_weighted_ranknet_by_hand() -> None:
    s, ranks = torch.tensor([[0.5, 2.0, -1.0]]), torch.tensor([[1, 3, 2]])
    terms = [
        math.log1p(math.exp(-1.0 - 0.5)) / 3,  # ranks 1 and 2
        math.log1p(math.exp(2.0 - 0.5)) / 4,  # 1 and 3
        math.log1p(math.exp(2.0 + 1.0)) / 5,  # 2 and 3
    ]
    assert weighted_ranknet(s, ranks).item() == pytest.approx(sum(terms) / 3)


def test_ranknet_is_the_binary_cross_entropy_of_pairs() -> None:
    s, ranks = lists()
    i, j = torch.triu_indices(5, 5, 1)
    above = (ranks[:, i] < ranks[:, j]).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(s[:, i] - s[:, j], above)
    assert ranknet(s, ranks).item() == pytest.approx(expected.item())
    weights = 1 / (ranks[:, i] + ranks[:, j])
    weighted = torch.nn.functional.binary_cross_entropy_with_logits(s[:, i] - s[:, j], above, weights.double())
    assert weighted_ranknet(s, ranks).item() == pytest.approx(weighted.item())


def test_listnets_target_is_the_models_own_scores_dealt_out_by_rank() -> None:
    s, ranks = torch.tensor([[0.5, 2.0, -1.0]], requires_grad=True), torch.tensor([[1, 3, 2]])
    total, own = sum(map(math.exp, (2.0, 0.5, -1.0))), [0.5, 2.0, -1.0]
    target = [math.exp(x) / total for x in (2.0, -1.0, 0.5)]  # the highest score for rank 1, the lowest for rank 3
    expected = -sum(t * (x - math.log(total)) for t, x in zip(target, own, strict=True))
    loss = listnet(s, ranks)
    assert loss.item() == pytest.approx(expected)
    loss.backward()  # of a cross-entropy to a fixed target: what the model says less what it should
    assert s.grad.tolist()[0] == pytest.approx([math.exp(x) / total - t for x, t in zip(own, target, strict=True)])


@pytest.mark.parametrize("loss", LOSSES.values())
def test_the_losses_do_not_see_the_order_of_items_and_fall_for_the_teachers_order(loss: Any) -> None:
    s, ranks = lists()
    order = torch.tensor([3, 0, 4, 1, 2])
    assert loss(s[:, order], ranks[:, order]).item() == pytest.approx(loss(s, ranks).item())
    assert loss(-2.0 * ranks.double(), ranks) < loss(s, ranks) < loss(2.0 * ranks.double(), ranks)


def test_lists_of_a_batch_are_ranked_apart() -> None:
    """The authors' batched form counts ranks across rows; here a batch is the mean of its lists."""
    s, ranks = lists()
    alone = [weighted_ranknet(s[i : i + 1], ranks[i : i + 1]).item() for i in range(3)]
    assert weighted_ranknet(s, ranks).item() == pytest.approx(np.mean(alone))


def test_the_joint_loss_at_its_limits() -> None:
    s, ranks = lists()
    z, tokens = torch.randn(3, 4, 7, dtype=torch.float64), torch.randint(7, (3, 4))

    def total(kind: str, weight: float) -> float:
        return objective(kind, z, tokens, s, ranks, "weighted_ranknet", weight).item()

    lm = -z.log_softmax(-1).gather(-1, tokens[..., None]).mean().item()
    assert total("lm", 10) == pytest.approx(lm) == total("joint", 0)
    assert total("rank", 10) == pytest.approx(10 * weighted_ranknet(s, ranks).item())
    assert total("joint", 10) == pytest.approx(total("lm", 10) + total("rank", 10))


def test_agreement_and_tau() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=7), rng.permutation(7)
        assert 2 * agreement(a, b) - 1 == pytest.approx(kendalltau(a, b).statistic)
        named = [{f"d{i}": float(x) for i, x in enumerate(v)} for v in (a, b)]
        assert kendall(*named) == pytest.approx(kendalltau(a, b).statistic)
    assert ranks_of(np.array([0.1, 3.0, 3.0, 2.0])).tolist() == [4, 1, 2, 3]


# --- windows and states ----------------------------------------------------------------------------------------------

PLACES = ["Oslo", "Lima", "Rome", "Cairo", "Delhi", "Quito", "Accra", "Hanoi", "Paris", "Sofia"]


@pytest.fixture(scope="module")
def small() -> Benchmark:
    documents = {
        w: Document(w, w, f"{w} [{i}] is a city known for its river and bridge {i}.") for i, w in enumerate(PLACES)
    }
    split = dict.fromkeys(PLACES[:6], "train") | dict.fromkeys(PLACES[6:8], "validation")
    queries = {f"q{w}": Query(f"q{w}", f"the city {w}", s) for w, s in split.items()}
    return Benchmark("test/cities", queries, documents, judgments={f"q{w}": {w: 1} for w in split})


SHAPE: dict[str, Any] = {"window": 4, "windows": 6, "held_windows": 2, "passage_tokens": 10, "query_tokens": 16}


def windows_cell(benchmark: Benchmark, encoder: Any, train: Any, held: Any) -> Cell:
    negatives = {"negatives": np.array(train), "held": np.array(held)}
    return make_cell(benchmark=benchmark, models={"encoder": encoder}, inputs={"negatives": negatives})


def train_cell(benchmark: Benchmark, lm: Any, prepared: Any, **inputs: Any) -> Cell:
    return make_cell(benchmark=benchmark, models={"llm": lm}, inputs={**prepared, **inputs})


@pytest.fixture(scope="module")
def prepared(small: Benchmark, lm: Any, encoder: Any) -> dict[str, Any]:
    train = [[(i + k) % 6 for k in (1, 2, 3)] for i in range(6)]
    windows = first.windows(windows_cell(small, encoder, train, [[0, 1, 2], [3, 4, 5]]), **SHAPE)
    c = make_cell(benchmark=small, models={"llm": lm}, inputs={"windows": windows})
    return {"windows": windows, "lower": first.lower(c, top=2, passage_tokens=10, batch=2)}


def read_by(
    lm: Any, small: Benchmark, prepared: Any, teacher: str = "own", precision: Any = "float32", top: Any = None
) -> Windows:
    return Windows(train_cell(small, lm, prepared), top or Top(lm, 2), teacher, precision)


def test_windows_hold_the_judged_article_which_the_teacher_puts_first(small: Benchmark, prepared: Any) -> None:
    w = prepared["windows"]
    queries = list(small.of_split("train", "validation").values())
    assert w["train"].tolist() == [True] * 6 + [False] * 2 and sorted(w["queries"]) == list(range(8))
    for q, documents, ranks, permuted, relevant in zip(
        w["queries"], w["documents"], w["ranks"], w["permuted"], w["relevant"], strict=True
    ):
        assert len(set(documents)) == 4 and sorted(ranks) == sorted(permuted) == [1, 2, 3, 4]
        assert [PLACES[d] for d in documents[relevant]] == [queries[q].id[1:]] and ranks[relevant].tolist() == [1]
    assert any((a != b).any() for a, b in zip(w["ranks"], w["permuted"], strict=True))


def test_the_judged_article_stands_anywhere(small: Benchmark, encoder: Any) -> None:
    """Uniform over places: of 240 windows, 60 are expected at each of four places; 24 is 3.5 deviations."""
    many = Benchmark(
        "test/many", {f"q{i}": Query(f"q{i}", "a city", "train") for i in range(240)}
        | {"v": Query("v", "a city", "validation")}, small.corpus,
        judgments={f"q{i}": {"Oslo": 1} for i in range(240)} | {"v": {"Oslo": 1}},
    )  # fmt: skip
    c = windows_cell(many, encoder, np.tile([1, 2, 3], (240, 1)), [[1, 2, 3]])
    w = first.windows(c, **{**SHAPE, "windows": 240})
    assert np.abs(w["relevant"][:240].sum(0) - 60).max() < 24


def whole(lm: Any, small: Benchmark, data: Any, i: int) -> list[int]:
    """The tokens of instance i, prompt and answer, end token included."""
    prompts = Listwise(lm, make_cell().meter, 10)
    w = data["windows"]
    query = list(small.of_split("train", "validation").values())[w["queries"][i]]
    documents = tuple(list(small.corpus.values())[d] for d in w["documents"][i])
    text = " > ".join(f"[{LETTERS[k]}]" for k in np.argsort(w["ranks"][i]))
    return [*llm.turn(lm)[0], *prompts.prompt(Window("q", query.text, documents)), *llm.ids(lm, text + "<|im_end|>")]


@torch.inference_mode()
@pytest.mark.parametrize("i", [0, 7])
def test_states_and_top_are_the_whole_model(lm: Any, small: Benchmark, prepared: Any, i: int) -> None:
    tokens = whole(lm, small, prepared, i)
    z = lm.model(torch.tensor([tokens]), use_cache=False).logits[0]
    data = read_by(lm, small, prepared)
    rows = np.array([i, 3])  # a second row of another length: padding leaves no trace
    hidden, s = data.read(rows)
    answer = data.tokens[i]
    assert tokens[-len(answer) :] == answer.tolist()
    expected = z[-len(answer) - 1 : -1]
    letters = [llm.ids(lm, f"[{letter}]")[1] for letter in "ABCD"]
    scale = expected.abs().max()  # half precision between the layers
    assert (data.top.logits(hidden[0]) - expected).abs().max() < 0.01 * scale
    assert (s[0] - z[-len(answer), letters]).abs().max() < 0.01 * scale
    np.testing.assert_allclose(data.scores(rows)[0], s[0].numpy(), atol=1e-3)


@torch.inference_mode()
def test_the_placebos_answers_follow_the_same_prompts(lm: Any, small: Benchmark, prepared: Any) -> None:
    data = read_by(lm, small, prepared, "permuted")
    teacher = read_by(lm, small, prepared)
    i = next(i for i in range(8) if (data.tokens[i] != teacher.tokens[i]).any())
    tokens = [*whole(lm, small, prepared, i)[: -len(teacher.tokens[i])], *data.tokens[i]]
    z = lm.model(torch.tensor([tokens]), use_cache=False).logits[0]
    logits = data.top.logits(data.read(np.array([i]))[0][0])
    assert (logits - z[-len(data.tokens[i]) - 1 : -1]).abs().max() < 0.01 * z.abs().max()
    np.testing.assert_allclose(data.scores(np.arange(8)), teacher.scores(np.arange(8)), atol=1e-4)


@torch.inference_mode()
def test_training_reads_the_scores_that_decoding_reads(lm: Any, small: Benchmark, prepared: Any) -> None:
    data = read_by(lm, small, prepared)
    prompts = Listwise(lm, make_cell().meter, 10)
    w, queries = prepared["windows"], list(small.of_split("train", "validation").values())
    for i in (0, 5):
        documents = tuple(list(small.corpus.values())[d] for d in w["documents"][i])
        context, last = prompts.read([Window("q", queries[w["queries"][i]].text, documents)])
        place = prompts.identifiers.first(4)
        z = prompts.scores(context, context.read_to_last([place.common], last), place)[0]
        assert (data.read(np.array([i]))[1][0] - z).abs().max() < 0.01 * z.abs().max()


@torch.inference_mode()
def test_identifiers_of_several_tokens_are_trained_and_read_alike() -> None:
    """Among 17 letters O and Q are "[" and a letter here, where the others are one token: windows of A to Q."""
    lm = with_tokenizer(qwen2())
    texts = {f"p{i}": Document(f"p{i}", f"Place {i}", f"A city with {i} bridges.") for i in range(17)}
    queries = {"a": Query("a", "bridges", "train"), "b": Query("b", "a city of the north", "validation")}
    benchmark = Benchmark("test/bridges", queries, texts)
    ranks = np.array([np.random.default_rng(i).permutation(17) + 1 for i in range(2)])
    ranks[0] = (ranks[0] - ranks[0, 14]) % 17 + 1  # its answer begins with O, the other one's does not
    assert ranks[0].argmin() == 14 != ranks[1].argmin() and ranks[1].argmin() != 16
    data = {
        "queries": np.arange(2), "documents": np.tile(np.arange(17), (2, 1)), "ranks": ranks, "permuted": ranks[::-1],
        "relevant": ranks == 1, "train": np.array([True, False]),
    }  # fmt: skip
    lower = first.lower(train_cell(benchmark, lm, {"windows": data}), top=1, passage_tokens=12, batch=2)
    windows = read_by(lm, benchmark, {"windows": data, "lower": lower}, top=Top(lm, 1))
    hidden, s = windows.read(np.arange(2))
    prompts = Listwise(lm, make_cell().meter, 12)
    shown = [Window(q, query.text, tuple(texts.values())) for q, query in queries.items()]
    context, last = prompts.read(shown)
    place = prompts.identifiers.first(17)
    expected = prompts.scores(context, context.read_to_last([place.common] * 2, last), place)
    assert len(place.nodes) == 2 and (s - expected).abs().max() < 0.02 * expected.abs().max()
    np.testing.assert_allclose(windows.scores(np.arange(2)), s.numpy(), atol=1e-3)
    ends = [int((row != first.IGNORED).sum()) for row in windows.tokens]
    assert ends[0] == ends[1] + 1 and hidden.shape[1] == max(ends)  # "[", "O" is a token more than "[B"
    for row, end, order in zip(windows.tokens, ends, ranks.argsort(1), strict=True):
        assert row[: end - 1].tolist() == prompts.identifiers.answer(order.tolist())
        assert row[end - 1] == lm.tokenizer.eos_token_id and set(row[end:]) <= {first.IGNORED}


@torch.inference_mode()
def test_half_precision_reads_nearly_the_same_and_leaves_weights_alone(
    lm: Any, small: Benchmark, prepared: Any
) -> None:
    whole, half = (read_by(lm, small, prepared, precision=precision) for precision in ("float32", "bfloat16"))
    hidden, s = half.read(np.arange(6))
    exact = whole.read(np.arange(6))[1]
    assert hidden.dtype == s.dtype == torch.float32
    assert 0 < (s - exact).abs().max() < 0.02 * exact.abs().max()
    assert {p.dtype for p in half.top.parameters()} == {torch.float32}
    assert np.corrcoef(half.scores(np.arange(6)).flat, whole.scores(np.arange(6)).flat)[0, 1] > 0.99


def test_every_letter_is_one_token_of_an_answer(lm: Any) -> None:
    """As part of an answer's text, not by itself."""
    prompts = Listwise(lm, make_cell().meter, 10)
    ranks = np.arange(20, 0, -1)
    text = " > ".join(f"[{letter}]" for letter in reversed(LETTERS[:20]))
    assert first.answer(prompts, ranks) == llm.ids(lm, text + "<|im_end|>")
    assert len({tokens[-1] for tokens in prompts.identifiers.first(26).paths}) == len(LETTERS)


# --- training and its traces -----------------------------------------------------------------------------------------


def test_installed_layers_leave_with_their_block(lm: Any) -> None:
    before = {n: p.clone() for n, p in lm.model.named_parameters()}
    layers = lm.model.config.num_hidden_layers
    weights = {n: a + 0.5 for n, a in arrays(Top(lm, 1)).items()}
    tokens = torch.tensor([llm.ids(lm, "The Danube flows")])
    with torch.inference_mode():
        plain = lm.model(tokens).logits
        with pytest.raises(ZeroDivisionError), installed(lm, 1, weights):
            assert not torch.allclose(lm.model(tokens).logits, plain)
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), truncated(lm, 1):
            raise ZeroDivisionError
        assert torch.equal(lm.model(tokens).logits, plain) and lm.model.config.num_hidden_layers == layers
    assert all(torch.equal(p, before[n]) for n, p in lm.model.named_parameters())


RECIPE = Recipe(tokens=1500, every=3)
LESSONS = {
    name: Lesson(
        top=2, objective=kind, loss="weighted_ranknet", weight=10.0, teacher=teacher, batch=2, precision="float32"
    )
    for name, kind, teacher in (
        ("lm", "lm", "own"), ("joint", "joint", "own"), ("rank", "rank", "own"), ("placebo", "joint", "permuted"),
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(lm: Any, small: Benchmark, prepared: Any) -> dict[str, tuple[Cell, dict[str, np.ndarray]]]:
    runs = {}
    for name, lesson in LESSONS.items():
        c = train_cell(small, lm, prepared, search={"best": np.array([3e-4])})
        runs[name] = (c, first.train(c, lesson=lesson, recipe=RECIPE))
    return runs


@torch.inference_mode()
def test_objectives_share_batches_and_budget_and_learn(lm: Any, small: Benchmark, prepared: Any, trained: Any) -> None:
    metered = [{k: v for k, v in c.meter.units["training"].items() if k != "seconds"} for c, _ in trained.values()]
    assert all(m == metered[0] and m["input_tokens"] >= 1500 for m in metered)
    base, rows = arrays(Top(lm, 2)), np.arange(6)
    for name, (_, weights) in trained.items():
        lesson, values = LESSONS[name], []
        for layers in (base, weights):
            data = read_by(lm, small, prepared, lesson.teacher, top=load(Top(lm, 2), layers))
            hidden, s = data.read(rows)
            tokens, ranks = (torch.from_numpy(a[rows]).long() for a in (data.tokens, data.ranks))
            loss = objective(lesson.objective, data.top.logits(hidden), tokens, s, ranks, lesson.loss, lesson.weight)
            values.append(loss.item())
        assert values[1] < values[0]  # over all six windows, not of one batch
        assert all((weights[n] != base[n]).any() for n in base)


def test_the_layers_stored_are_those_last_validated(lm: Any, small: Benchmark, prepared: Any, trained: Any) -> None:
    c, weights = trained["joint"]
    values = read_by(lm, small, prepared, top=load(Top(lm, 2), weights)).validation()
    assert {name: [value] for name, value in values.items()} == {name: weights[name].tolist() for name in values}
    assert c.history.record()["agreement"][-1][1] == values["agreement"] and weights["rate"] == [3e-4]
    untrained = first.start(train_cell(small, lm, prepared), top=2, precision="float32")
    assert untrained["agreement"] == [c.history.record()["agreement"][0][1]] and untrained["rate"] == [0.0]


def test_the_search_takes_the_rate_that_agreed_best_on_the_same_budget(
    lm: Any, small: Benchmark, prepared: Any
) -> None:
    c, rates = train_cell(small, lm, prepared), [1e-9, 3e-3]
    result = first.search(c, rates=rates, search_share=0.5, lesson=LESSONS["rank"], recipe=RECIPE)
    curves = [c.history.record()[f"rate_{rate}_agreement"] for rate in rates]
    best = [max(value for step, value in curve if step > 0) for curve in curves]
    assert result["values"].tolist() == best and best[0] != best[1]
    assert result["best"][0] == rates[best.index(max(best))]
    read = [c.meter.units[f"rate_{rate}"]["input_tokens"] for rate in rates]
    assert read[0] == read[1] and 750 <= read[0] < 1200


def test_a_card_may_name_every_loss() -> None:
    assert set(get_args(get_type_hints(Lesson)["loss"])) == set(LOSSES)


# --- re-ranking ------------------------------------------------------------------------------------------------------

LISTWISE: dict[str, Any] = {"passage_tokens": 12, "window": 4, "step": 2, "batch": 2}


def test_untrained_layers_are_the_zero_shot_row(lm: Any) -> None:
    c = make_cell(models={"llm": lm})
    minilm = {q: {d: -float(i) for i, d in enumerate(docs)} for q, docs in c.candidates.items()}
    c.inputs = {"weights": arrays(Top(lm, 1)) | {"agreement": np.array([0.5])}, "minilm": minilm}
    out = {name: o.checked(c).values for name, o in first.rerank(c, top=1, decoding="single", **LISTWISE).items()}
    zero = make_cell(models={"llm": lm})
    assert out["ranking"] == listwise.first_token(zero, **LISTWISE).checked(zero).values
    for q, order in out["ranking"].items():
        places = [int(d[1:]) for d in order]
        assert out["tau"][q]["tau"] == pytest.approx(kendalltau(range(len(places)), places).statistic)
    assert out["malformed"] == {q: {"malformed_rate": 0.0} for q in c.queries}
    assert out["agreement"] == {MODEL: {"agreement": 0.5}}


def test_written_permutations_cost_tokens_and_one_token_does_not(lm: Any) -> None:
    generated, read, orders = {}, {}, {}
    weights = arrays(Top(lm, 1)) | {"agreement": np.array([0.5])}
    for decoding in ("single", "natural", "length", "prompt"):
        c = make_cell(queries={"q1": "board games"}, models={"llm": lm})
        c.inputs = {"weights": weights, "minilm": {"q1": dict.fromkeys(c.candidates["q1"], 0.0)}}
        out = first.rerank(c, top=1, decoding=decoding, **LISTWISE)
        orders[decoding] = list(out["ranking"].checked(c).values["q1"])
        generated[decoding] = c.meter.units["q1"]["generated_tokens"]
        read[decoding] = c.meter.units["q1"]["input_tokens"]
    assert generated["single"] == generated["prompt"] == 0 and generated["natural"] > 0
    assert orders["prompt"] == c.candidates["q1"] and read["prompt"] == read["single"] - 3  # "[" of three windows
    assert generated["length"] == sum(len(llm.ids(lm, " > ".join(["[A]"] * n))) for n in (4, 4, 3))


# --- feedback --------------------------------------------------------------------------------------------------------


def test_feedback_moves_the_query_towards_the_teachers_order_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(6, 16))
    passages /= np.linalg.norm(passages, axis=1, keepdims=True)
    query = passages[5] + 0.1 * rng.normal(size=16)  # the retriever's best is the teacher's last
    passages_before, query_before = passages.copy(), query.copy()
    moved = refine(query, passages, 200, 0.005)
    assert (passages == passages_before).all() and (query == query_before).all()
    before, after = passages @ query, passages @ moved
    assert agreement(after, -np.arange(6)) > agreement(before, -np.arange(6))
    np.testing.assert_allclose(refine(query, passages, 0, 0.005), query, rtol=1e-6)


def test_the_first_step_of_feedback_is_adams() -> None:
    """Adam moves every coordinate by the rate at first, towards the sign of p1 - p2."""
    passages = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.2]])
    moved = refine(np.array([0.2, 0.9, 0.1]), passages, 1, 0.01)
    np.testing.assert_allclose(moved, [0.21, 0.89, 0.11], atol=1e-5)


def test_no_feedback_is_dense_retrieval_and_feedback_follows_its_teacher(encoder: Any) -> None:
    base: dict[str, Any] = {"k": 5, "max_tokens": 32, "batch": 2}
    c = make_cell(models={"encoder": encoder})
    c.inputs = first_stages.encode_corpus(c, max_tokens=32, batch=2)
    c.inputs = {"embeddings": c.inputs}
    plain = first.feedback(c, teacher="none", steps=20, rate=0.001, **base).checked(c).values
    assert plain == first_stages.dense(c, **base).checked(c).values
    worst = {q: list(scores)[::-1] for q, scores in plain.items()}
    c.inputs |= {"teacher": {q: {d: -float(i) for i, d in enumerate(order)} for q, order in worst.items()}}
    moved = {
        kind: first.feedback(c, teacher=kind, steps=60, rate=0.01, **base).checked(c).values
        for kind in ("given", "random")
    }
    for q, order in worst.items():
        assert next(iter(moved["given"][q])) != order[-1]  # the retriever's best was the teacher's last
        assert moved["random"][q] != moved["given"][q] and list(moved["random"][q].values()) != list(plain[q].values())
