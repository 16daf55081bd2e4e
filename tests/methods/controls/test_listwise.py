"""Listwise generation against the model step by step, and what becomes of its answers.

The model names passages in the order of the prompt, whatever they say. Here its head is changed so that its answers are
permutations that do not come from doing nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from methods.controls import listwise
from methods.parts.language import llm
from methods.parts.language.listwise import Listwise, Window
from rankrepro.benchmarks.base import Benchmark
from rankrepro.cell import Cell, Facts, Meter, Ranking
from rankrepro.errors import ConfigError
from rankrepro.models import LoadedModel

MakeCell = Callable[..., Cell]
Uncached = Callable[[list[int]], torch.Tensor]
SIZES: dict[str, Any] = {"passage_tokens": 10, "window": 4, "step": 2, "batch": 3}
DOCUMENTS = {"q1": ["d5", "d1", "d0", "d2", "d6", "d3"], "q2": ["d4", "d0", "d1"], "q3": ["d6", "d5", "d4", "d3", "d2"]}


@pytest.fixture
def lm(lm: LoadedModel) -> Iterator[LoadedModel]:
    """The model, which writes C, D, B, A where it would have written A, B, C, D."""
    head = lm.model.get_output_embeddings()
    weight = head.weight.detach().clone()
    letters = [tokens[-1] for tokens in Listwise(lm, Meter(), 1).identifiers.first(4).paths]
    weight[[letters[i] for i in (2, 3, 1, 0)]] = head.weight.detach()[letters]
    changed = torch.nn.Linear(*reversed(weight.shape), bias=False, device="meta")
    changed.weight = torch.nn.Parameter(weight, requires_grad=False)
    lm.model.set_output_embeddings(changed)
    yield lm
    lm.model.set_output_embeddings(head)


@pytest.fixture(scope="module")
def window(benchmark_: Benchmark) -> Window:
    return Window("q", "which river flows through germany", tuple(benchmark_.corpus[f"d{i}"] for i in (1, 5, 2, 0)))


def generated(make_cell: MakeCell, lm: Any, decoding: list[str], **params: Any) -> tuple[Cell, dict[str, Any]]:
    cell = make_cell(candidates=DOCUMENTS, models={"llm": lm})
    return cell, listwise.rankgpt(cell, **{**SIZES, "decoding": decoding, "stop": "natural", **params})


# --- answers against the model ---------------------------------------------------------------------------------------


def test_constrained_equals_step_by_step(lm: Any, uncached: Uncached, window: Window) -> None:
    """Uncached: read prompt and answer so far again for every identifier, take the likeliest letter left."""
    prompts = Listwise(lm, Meter(), 10)
    windows = [Window("p", "board games", window.documents[:3]), window]
    context, last = prompts.read(windows)
    answers = prompts.constrained(context, last, windows)
    before = llm.turn(lm)[0]
    for one, answer in zip(windows, answers, strict=True):
        written, left = "[", "ABCD"[: len(one.documents)]
        while left:
            z = uncached([*before, *prompts.prompt(one), *llm.ids(lm, written)])[-1]
            # the token after the bracket, read off the whole answer so far with this letter
            best = max(left, key=lambda c: z[llm.ids(lm, f"{written}{c}]")[len(llm.ids(lm, written))]].item())
            left = left.replace(best, "")
            written += f"{best}] > ["
        assert ["ABCD"[i] for i in answer] == re.findall(r"\[(.)\]", written)
    assert all(answer != sorted(answer) for answer in answers)
    assert answers[1][2:] != sorted(answers[1][2:])  # the last letters are decided too


def test_free_equals_generate(lm: Any, window: Window) -> None:
    prompts = Listwise(lm, Meter(), 10)
    windows = [Window("p", "board games", window.documents[:3]), window]
    before = llm.turn(lm)[0]
    for stop, least in (("natural", 0), ("length", 4 * 4 - 1)):
        context, last = prompts.read(windows)
        answer = prompts.free(context, last, windows, stop)[1]
        tokens = torch.tensor([[*before, *prompts.prompt(window)]])
        with torch.inference_mode():
            written = lm.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), do_sample=False,
                min_new_tokens=least or None, max_new_tokens=least or 20,
            )[0, tokens.shape[1] :]  # fmt: skip
        expected = ["ABCD".find(c) for c in re.findall(r"\[([A-Z])\]", lm.tokenizer.decode(written))]
        assert answer == expected[: len(answer)] and answer[:2] != [0, 1]
        assert len(answer) == len(expected) or sorted(answer) == [0, 1, 2, 3]  # shorter only where complete


def test_prompt_names_every_passage_once(lm: Any, window: Window) -> None:
    text = lm.tokenizer.decode(Listwise(lm, Meter(), 100).prompt(window))
    assert re.findall(r"\n\[(.)\] (\w+)", text) == [("A", "Chess"), ("B", "Rhine"), ("C", "Paris"), ("D", "Danube")]
    assert text.count(window.query) == 2 and "France (2)," in text


def test_a_constrained_answer_is_always_a_permutation(lm: Any, window: Window) -> None:
    """The identity that the card claims: whatever the prompt, every identifier comes exactly once."""
    prompts = Listwise(lm, Meter(), 4)
    windows = [Window(str(n), query, window.documents[:n]) for n, query in enumerate(("", "]", "[A] > [A]", "x"), 1)]
    context, last = prompts.read(windows)
    for one, answer in zip(windows, prompts.constrained(context, last, windows), strict=True):
        assert sorted(answer) == list(range(len(one.documents)))


@torch.inference_mode()
def test_first_token_orders_a_window_by_the_logits_of_one_uncached_pass(
    make_cell: MakeCell, lm: Any, uncached: Uncached
) -> None:
    documents = ["d0", "d1", "d5", "d2"]
    cell = make_cell({"q1": "which river flows through germany"}, {"q1": documents}, models={"llm": lm})
    ranked = list(listwise.first_token(cell, **SIZES).checked(cell).values["q1"])
    prompts = Listwise(lm, cell.meter, SIZES["passage_tokens"])
    window = Window("q1", cell.queries["q1"], tuple(map(cell.document, documents)))
    tokens = [*llm.turn(lm)[0], *prompts.prompt(window), *llm.ids(lm, "[")]
    logits = uncached(tokens)[-1, [llm.ids(lm, f"[{letter}]")[1] for letter in "ABCD"]]
    assert ranked == [documents[i] for i in logits.argsort(descending=True).tolist()] != documents
    units = cell.meter.units["q1"]
    assert units["generated_tokens"] == 0 and units["forward_passes"] == 2
    assert units["input_tokens"] == len(tokens) - len(llm.turn(lm)[0])


# --- what is written becomes the order -------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["natural", "length"])
@pytest.mark.parametrize(
    ("answer", "order", "malformed"),
    [
        ("[C] > [A] > [D] > [B]", "CADB", 0),
        ("[D] > [B] > [B] > [Z]", "DBAC", 1),  # repaired: missing passages follow in the order shown
    ],
)
def test_a_written_answer_is_read_to_its_last_letter(
    make_cell: MakeCell, lm: Any, monkeypatch: pytest.MonkeyPatch, answer: str, order: str, malformed: int, stop: str
) -> None:
    tokens = [*llm.ids(lm, answer), lm.model.generation_config.eos_token_id]
    written = iter(tokens)

    def logits(lm: Any, hidden: torch.Tensor, choices: Any = None) -> torch.Tensor:
        z = torch.zeros(len(hidden), lm.model.config.vocab_size)
        z[:, next(written)] = 1
        return z

    monkeypatch.setattr(llm, "logits", logits)
    documents = ["d0", "d1", "d5", "d2"]
    cell = make_cell({"q1": "rivers"}, {"q1": documents}, models={"llm": lm})
    outputs = listwise.rankgpt(cell, **SIZES, decoding=["free"], stop=stop)
    assert list(outputs["rankgpt_free"].checked(cell).values["q1"]) == [documents["ABCD".index(c)] for c in order]
    assert outputs["rankgpt_malformed"].values["q1"] == {"malformed_rate": malformed}
    complete = stop == "length" or not malformed  # a natural answer that is no permutation goes on to its end
    assert cell.meter.units["q1"]["generated_tokens"] == len(tokens) - complete


def test_windows_hand_on_what_they_decided(make_cell: MakeCell, lm: Any) -> None:
    """One query's windows by hand, from the tail: each starts with the order that the one before it left."""
    cell, outputs = generated(make_cell, lm, ["constrained"])
    prompts = Listwise(lm, Meter(), SIZES["passage_tokens"])
    order = list(DOCUMENTS["q1"])
    for start in (2, 0):
        documents = order[start : start + 4]
        window = Window("q1", cell.queries["q1"], tuple(map(cell.document, documents)))
        context, last = prompts.read([window])
        order[start : start + 4] = [documents[i] for i in prompts.constrained(context, last, [window])[0]]
    assert list(outputs["rankgpt"].checked(cell).values["q1"]) == order != DOCUMENTS["q1"]


def test_sharing_prompts_changes_no_result(make_cell: MakeCell, lm: Any) -> None:
    """Both variants at once, in batches, equal each alone, query by query; and cost fewer tokens."""
    cell, both = generated(make_cell, lm, ["constrained", "free"])
    tokens = 0.0
    for decoding in ("constrained", "free"):
        alone, outputs = generated(make_cell, lm, [decoding], batch=1)
        for variant, output in outputs.items():
            assert output.values == both[variant].values
            if isinstance(output, Ranking):
                assert all(list(ranked) != DOCUMENTS[q] for q, ranked in output.checked(alone).values.items())
        tokens += sum(unit["input_tokens"] for unit in alone.meter.units.values())
    assert sum(unit["input_tokens"] for unit in cell.meter.units.values()) < 0.8 * tokens
    assert set(both) == {"rankgpt", "rankgpt_free", "rankgpt_malformed"}
    assert isinstance(both["rankgpt_malformed"], Facts) and set(both["rankgpt_malformed"].values) == set(cell.queries)


def test_first_token_slides_its_windows_and_batches_leave_no_trace(make_cell: MakeCell, lm: Any) -> None:
    cell, alone = make_cell(models={"llm": lm}), make_cell(models={"llm": lm})
    ranked = listwise.first_token(cell, **SIZES).checked(cell).values
    assert ranked == listwise.first_token(alone, **{**SIZES, "batch": 1}).checked(alone).values
    assert all(units["forward_passes"] >= 4 for units in cell.meter.units.values())  # three windows of seven documents


@pytest.mark.parametrize(("window", "step"), [(27, 2), (4, 5), (4, 0)])
def test_windows_that_cannot_be_walked_are_named(make_cell: MakeCell, lm: Any, window: int, step: int) -> None:
    message = rf"test: window {window}, step {step}: need 0 < step <= window <= 26"
    with pytest.raises(ConfigError, match=message):
        generated(make_cell, lm, ["free"], window=window, step=step)
    with pytest.raises(ConfigError, match=message):
        listwise.first_token(make_cell(models={"llm": lm}), **{**SIZES, "window": window, "step": step})


# --- does a model follow the prompt? ---------------------------------------------------------------------------------


def test_planted_windows_hold_the_query_once_at_any_place_among_foreign_passages(make_cell: MakeCell) -> None:
    """Uniform over places: of 300 windows, 100 are expected at each of three places; 29 is 3.5 deviations."""
    texts = {f"q{i}": f"question {i} of many" for i in range(300)}
    cell = make_cell(texts, {q: ["d0", "d1"] for q in texts})
    counts, together = [0, 0, 0], set()
    for q, text in texts.items():
        window, place = listwise.planted_window(cell, sorted(cell.benchmark.corpus), q, 3)
        counts[place] += 1
        assert [d.content.startswith(f"{text} ") for d in window.documents] == [i == place for i in range(3)]
        assert not {d.id for d in window.documents} & {"d0", "d1"} and len({d.id for d in window.documents}) == 3
        together.add(tuple(d.id for d in window.documents))
    assert max(abs(n - 100) for n in counts) < 29 and len(together) > 40  # of 60 ways to draw three of five in order
    again = [listwise.planted_window(cell, sorted(cell.benchmark.corpus), "q7", 3) for _ in range(2)]
    assert again[0] == again[1]


def test_what_reads_the_query_is_told_from_what_does_not(
    make_cell: MakeCell, lm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {f"q{i}": f"question {i} of many" for i in range(40)}
    cell = make_cell(texts, {q: ["d0"] for q in texts}, models={"llm": lm})
    monkeypatch.setattr(Listwise, "read", lambda self, windows: (None, None))

    def facts(order_of: Callable[[Window], list[int]]) -> dict[str, float]:
        monkeypatch.setattr(Listwise, "decode", lambda self, way, context, last, windows: list(map(order_of, windows)))
        values = listwise.planted(cell, passage_tokens=10, window=4, batch=8).checked(cell).values
        assert len(values) == 40
        return {name: sum(v[name] for v in values.values()) / 40 for name in ("first", "RR", "chance")}

    def reading(window: Window) -> list[int]:
        return sorted(range(4), key=lambda i: window.query not in window.documents[i].content)

    assert facts(reading) == {"first": 1, "RR": 1, "chance": 0.25}
    blind = facts(lambda window: [2, 0, 3, 1])
    assert 0 < blind["first"] < 0.5 and blind["RR"] < 0.8
    assert facts(lambda window: reading(window)[::-1]) == {"first": 0, "RR": 0.25, "chance": 0.25}


def test_planted_windows_are_ranked_by_the_model(make_cell: MakeCell, lm: Any, uncached: Uncached) -> None:
    cell = make_cell({"q1": "which river flows through germany"}, {"q1": ["d0"]}, models={"llm": lm})
    facts = listwise.planted(cell, passage_tokens=10, window=4, batch=1).checked(cell).values["q1"]
    window, place = listwise.planted_window(cell, sorted(cell.benchmark.corpus), "q1", 4)
    tokens = [*llm.turn(lm)[0], *Listwise(lm, Meter(), 10).prompt(window), *llm.ids(lm, "[")]
    z = uncached(tokens)[-1, [llm.ids(lm, f"[{letter}]")[1] for letter in "ABCD"]]
    rank = 1 + z.argsort(descending=True).tolist().index(place)
    assert facts == {"first": float(rank == 1), "RR": pytest.approx(1 / rank), "chance": 0.25}


def test_a_killed_cell_resumes(make_cell: MakeCell, lm: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, Any] = {**SIZES, "batch": 1, "decoding": ["constrained"], "stop": "natural"}
    cell = make_cell(candidates=DOCUMENTS, models={"llm": lm}, shards=tmp_path)
    whole = listwise.rankgpt(cell, **params)
    lines = (tmp_path / "units.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "units.jsonl").write_text(lines[0] + lines[1][:30])  # killed while writing the second batch
    prompted = []
    prompt = Listwise.prompt
    monkeypatch.setattr(Listwise, "prompt", lambda self, window: prompted.append(window.unit) or prompt(self, window))
    assert listwise.rankgpt(cell, **params)["rankgpt"].values == whole["rankgpt"].values
    assert set(prompted) == {"q2", "q3"}
