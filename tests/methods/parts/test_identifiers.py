"""Identifiers as tokenizers of several families cut them, and choices among them against whole passes of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tokenizers_support import BLANKS, GPT2_CUT, byte_level, metaspace, qwen2, with_tokenizer

from methods.parts.language import llm
from methods.parts.language.identifiers import Identifiers, Place
from methods.parts.language.listwise import Listwise, Window
from methods.parts.language.windows import LETTERS, written
from rankrepro.benchmarks.base import Document
from rankrepro.cell import Meter
from rankrepro.errors import ConfigError
from rankrepro.models.miniatures import LLAMA_CUT

FAMILIES: dict[str, tuple[Callable[[], Any], list[str], list[str], list[str]]] = {
    # the tokenizer; [A] as the first identifier, as a later one; [O] as the first one, through their letters
    "gpt-2": (lambda: byte_level(GPT2_CUT, BLANKS), ["[", "A"], ["Ġ>", "Ġ[", "A"], ["[", "O"]),
    "llama-3": (
        lambda: byte_level(LLAMA_CUT, [*BLANKS, *(("[", c) for c in LETTERS)]),
        ["[A"], ["Ġ>", "Ġ[", "A"], ["[O"],
    ),
    "qwen2": (
        qwen2,
        ["[A"], ["Ġ>", "Ġ[", "A"], ["[", "O"],
    ),
    "mistral": (
        lambda: metaspace([("▁", "["), ("▁", ">")]),
        ["▁[", "A"], ["▁>", "▁[", "A"], ["▁[", "O"],
    ),
    "joined behind": (  # some letters are joined to the bracket behind them
        lambda: metaspace([("▁", "["), ("▁", ">"), ("A", "]")]),
        ["▁[", "A]"], ["▁>", "▁[", "A]"], ["▁[", "O"],
    ),
}  # fmt: skip


def tokens_of(lm: Any, ids: Sequence[int]) -> list[str]:
    return lm.tokenizer.convert_ids_to_tokens(list(ids))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[Any, list[str], list[str], list[str]]:
    make, *cuts = FAMILIES[request.param]
    return with_tokenizer(make()), *cuts  # type: ignore[return-value]


def test_identifiers_are_cut_as_in_whole_answers(family: Any) -> None:
    lm, first, later, o = family
    identifiers = Identifiers(lm)
    assert tokens_of(lm, identifiers.first(26).paths[0]) == first
    assert tokens_of(lm, identifiers.later(26).paths[0]) == later
    assert tokens_of(lm, identifiers.first(26).paths[LETTERS.index("O")]) == o
    for order in ([0], [14, 16, 0, 3], [3, 0, 16], list(range(26)), list(range(25, -1, -1))):
        assert identifiers.answer(order) == llm.ids(lm, written(order))


def test_the_real_tokenizer_of_the_tests_model(lm: Any) -> None:
    identifiers = Identifiers(lm)
    assert tokens_of(lm, identifiers.first(26).common) == ["["]
    assert tokens_of(lm, identifiers.later(26).common) == ["Ġ>", "Ġ["]
    assert identifiers.answer(range(20)) == llm.ids(lm, written(range(20)))


def test_a_tree_that_branches_once_reads_no_more_than_its_trunk() -> None:
    place = Place([[1, 2, 3], [1, 2, 4], [1, 2, 5]])
    assert (place.common, place.nodes, place.read, place.passes) == ([1, 2], [[]], 2, 1)
    assert [place.chosen(i) for i in range(3)] == [[3], [4], [5]]
    place = Place([[7], [8], [9, 1], [9, 2]])  # "[A", "[B"; "[" and "O", "[" and "Q"
    assert (place.common, place.nodes, place.read, place.passes) == ([], [[], [9]], 1, 1)
    assert [place.chosen(i) for i in range(4)] == [[7], [8], [9, 1], [9, 2]]
    assert Place([[4, 5]]).common == [4]  # an identifier by itself is still to be chosen


def test_the_bracket_is_no_identifier() -> None:
    """The identifier "[O" is two tokens and scored by both, though among fifteen letters "[" would tell it apart."""
    lm = with_tokenizer(qwen2())
    place = Identifiers(lm).first(15)
    assert tokens_of(lm, place.chosen(14)) == ["[", "O"] and len(place.nodes) == 2


@torch.inference_mode()
def log_p(lm: Any, prompt: Sequence[int], continuation: Sequence[int]) -> float:
    """Log-probability of a continuation, in one pass without a cache."""
    z = lm.model(torch.tensor([[*prompt, *continuation]]), use_cache=False).logits[0].log_softmax(-1)
    return sum(z[len(prompt) - 1 + i, token].item() for i, token in enumerate(continuation))


DOCUMENTS = tuple(Document(f"d{i}", f"Place {i}", f"A city with {i} bridges, known for wine.") for i in range(17))
WINDOWS = [Window("p", "wine", DOCUMENTS[:17]), Window("q", "how many bridges", DOCUMENTS[5:9])]


def test_the_first_identifier_is_scored_by_its_probability(family: Any) -> None:
    """17 passages, A to Q: some of their identifiers are one token and others two."""
    lm = family[0]
    prompts = Listwise(lm, Meter(), 8)
    context, last = prompts.read(WINDOWS)
    slots = context.slots
    orders = prompts.single(context, last, WINDOWS)
    assert context.slots == slots + len(prompts.identifiers.first(17).common)  # other branches are forgotten
    for window, order in zip(WINDOWS, orders, strict=True):
        prompt = [*llm.turn(lm)[0], *prompts.prompt(window)]
        paths = prompts.identifiers.first(17).paths
        expected = [log_p(lm, prompt, paths[i]) for i in range(len(window.documents))]
        assert order == sorted(range(len(expected)), key=lambda i: -expected[i])


def test_a_constrained_answer_is_the_likeliest_identifier_step_by_step(family: Any) -> None:
    lm = family[0]
    prompts = Listwise(lm, Meter(), 8)
    context, last = prompts.read(WINDOWS)
    for window, answer in zip(WINDOWS, prompts.constrained(context, last, WINDOWS), strict=True):
        prompt, left, order = [*llm.turn(lm)[0], *prompts.prompt(window)], list(range(len(window.documents))), []
        while left:
            so_far = llm.ids(lm, written(order)) if order else []
            # of every answer that goes on with one more identifier: through its letter
            paths = {i: through_letter(lm, [*order, i]) for i in left}
            known = min(len(so_far), min(map(len, paths.values())))
            while known and any(path[:known] != so_far[:known] for path in paths.values()):
                known -= 1
            best = max(left, key=lambda i: log_p(lm, [*prompt, *paths[i][:known]], paths[i][known:]))
            left.remove(best)
            order.append(best)
        assert answer == order


def through_letter(lm: Any, order: Sequence[int]) -> list[int]:
    answer = written(order)
    encoding = lm.tokenizer(answer, add_special_tokens=False)
    return encoding["input_ids"][: encoding.char_to_token(len(answer) - 2) + 1]


def test_costs_are_counted_where_tokens_are_fed(family: Any) -> None:
    lm = family[0]
    for way in ("single", "constrained"):
        meter, fed = Meter(), 0

        def count(module: Any, args: Any, kwargs: Any) -> None:
            nonlocal fed
            fed += kwargs["input_ids"].shape[1]

        prompts = Listwise(lm, meter, 8)
        context, last = prompts.read(WINDOWS[1:])
        before = {k: v for k, v in meter.units["q"].items()}
        hook = lm.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
        prompts.decode(way, context, last, WINDOWS[1:])  # type: ignore[arg-type]
        hook.remove()
        spent = {k: v - before.get(k, 0) for k, v in meter.units["q"].items()}
        generated = int(spent.get("generated_tokens", 0))
        # of the letters that were generated all but the last are fed
        assert spent["input_tokens"] + max(generated - 1, 0) == fed


def test_a_tokenizer_that_cuts_by_what_stood_before_is_refused() -> None:
    lm = with_tokenizer(metaspace([("▁", "["), ("▁", ">"), ("B", "]")]))
    original = lm.tokenizer

    class Whimsical:
        """Joins the bracket to a letter in long answers alone."""

        def __call__(self, text: str, **options: Any) -> Any:
            return original(text.replace(" > ", ">") if len(text) > 20 else text, **options)

    lm.tokenizer = Whimsical()
    with pytest.raises(ConfigError, match="test: its tokenizer cuts an identifier"):
        Identifiers(lm)
