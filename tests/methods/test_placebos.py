"""What training or scoring sees of a placebo is not what it sees of the arm, for every placebo of every card.

A placebo whose ingredient is not destroyed fails or passes for another reason, and no verdict tells. So each is called
here as the plan calls it at scale quick, on a small benchmark, beside the arm that it is the placebo of, and what
reaches the loss or the scoring function is compared. A placebo of a new card needs an entry in SEEN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import cells
import numpy as np
import pytest
import torch

from methods.language_models import anyloss, lost
from methods.llm_rerankers import first
from methods.ranker_training import mw_loss
from methods.vision import superglobal
from rankrepro import claims, parameters
from rankrepro.benchmarks.base import Benchmark, Document, Query
from rankrepro.benchmarks.images import ImageBenchmark
from rankrepro.benchmarks.tabular import TabularBenchmark, Task
from rankrepro.cards import load_cards
from rankrepro.cell import Cell
from rankrepro.plan import Plan, make_plan
from rankrepro.runner import decoys_of, method, queries_of

Seen = list[Any]  # what the arm and the placebo are shown, piece by piece
Spec = Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """The plan of all cards at quick, the real models, and what they are given to read."""

    plan: Plan
    models: Mapping[str, Any]
    patch: pytest.MonkeyPatch
    made: dict[str, Any] = field(default_factory=dict)  # what stages returned, by digest

    def spec(self, row: str) -> Spec:
        """The spec of a row, on the first of its benchmarks."""
        ((_, digest, _), *_), *_ = self.plan.rows[row].values()
        return self.plan.nodes[digest].spec

    def input(self, spec: Spec, name: str) -> Spec:
        return self.plan.nodes[spec["inputs"][name]["digest"]].spec

    def arguments(self, spec: Spec) -> dict[str, Any]:
        return parameters.bind(method(spec["fn"]), spec["params"])

    def cell(self, spec: Spec, benchmark: Any, **more: Any) -> Cell:
        models = {name: self.models[name] for name in spec["models"]}
        return cells.make_cell(benchmark=benchmark, models=models, seed=spec["seed"], **more)

    def call(self, spec: Spec, cell: Cell) -> Any:
        return method(spec["fn"])(cell, **self.arguments(spec))

    def stages(self, spec: Spec, names: Sequence[str], benchmark: Any) -> dict[str, Any]:
        """Some inputs of a spec, which are stages, computed on the benchmark with those that they read."""
        for name in names:
            digest, stage = spec["inputs"][name]["digest"], self.input(spec, name)
            if digest not in self.made:
                inputs = self.stages(stage, list(stage["inputs"]), benchmark)
                self.made[digest] = self.call(stage, self.cell(stage, benchmark, inputs=inputs))
        return {name: self.made[spec["inputs"][name]["digest"]] for name in names}

    @contextmanager
    def spied(self, place: Any, name: str, note: Callable[..., Any]) -> Iterator[list[Any]]:
        """What `note` keeps of each call of a function of a module or dictionary, which goes on as it does."""
        kept: list[Any] = []
        real = place[name] if isinstance(place, dict) else getattr(place, name)

        def spy(*args: Any, **kwargs: Any) -> Any:
            kept.append(note(*args, **kwargs))
            return real(*args, **kwargs)

        with self.patch.context() as patch:
            (patch.setitem if isinstance(place, dict) else patch.setattr)(place, name, spy)
            yield kept


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_cards(), "quick")


@pytest.fixture
def world(plan: Plan, lm: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(plan, {"llm": lm, "encoder": encoder}, monkeypatch)


PLACES = [
    "Oslo", "Lima", "Rome", "Cairo", "Delhi", "Quito", "Accra", "Hanoi", "Paris", "Sofia", "Tunis", "Dakar", "Kyiv",
    "Doha", "Riga", "Bern", "Minsk", "Tokyo", "Seoul", "Baku", "Lagos", "Perth", "Turin", "Lyon",
]  # fmt: skip


def pairs() -> Benchmark:
    """Twenty-four towns, and queries of every split that ask for one of them."""
    documents = {w: Document(w, w, f"{w} is town number {i}, known for bridge {i}.") for i, w in enumerate(PLACES)}
    split = dict.fromkeys(PLACES[:8], "train") | dict.fromkeys(PLACES[8:11], "validation")
    split |= dict.fromkeys(PLACES[11:15], "test")
    queries = {f"q{w}": Query(f"q{w}", f"the town {w}", s) for w, s in split.items()}
    told = {f"q{w}": {w: 1} for w in split if split[w] != "test"}
    return Benchmark("test/towns", queries, documents, judgments=told)


# --- another query ---------------------------------------------------------------------------------------------------


def asked(world: World, arm: str, placebo: str) -> tuple[Seen, Seen]:
    """The texts of the queries that two cells are both asked: a placebo may have the smaller sample."""
    both = [queries_of(pairs(), **world.spec(row)["queries"]) for row in (arm, placebo)]
    shared = sorted(both[0].keys() & both[1].keys())
    return tuple([queries[q].text for q in shared] for queries in both)  # type: ignore[return-value]


def scored(world: World, arm: str, placebo: str) -> tuple[Seen, Seen]:
    """The scores of two variants of one arm; the placebo's are those that the arm gives to the decoys' texts."""
    spec, texts = world.spec(arm), {"q1": "which river flows through germany", "q2": "board games"}
    assert world.spec(placebo) is spec
    decoys = {q: other.text for q, other in decoys_of({q: Query(q, text, "test") for q, text in texts.items()}).items()}
    variants = [world.plan.rows[row][spec["benchmark"]["id"]][0][2] for row in (arm, placebo)]

    def scores(queries: Mapping[str, str], variant: str) -> Seen:
        candidates = {q: ["d0", "d1", "d5"] for q in queries}
        cell = replace(world.cell(spec, cells.FEW, queries=dict(queries), candidates=candidates), decoys=decoys)
        values = world.call(spec, cell)[variant].values
        return [[round(values[q][d], 4) for d in sorted(values[q])] for q in texts]

    own, destroyed = scores(texts, variants[0]), scores(texts, variants[1])
    assert np.allclose(destroyed, scores(decoys, variants[0]), atol=2e-3)
    return own, destroyed


# --- FIRST -----------------------------------------------------------------------------------------------------------


def taught(world: World, row: str) -> Seen:
    """The states and tokens of the answers, and the ranks, of every window that a student is trained on."""
    spec, benchmark = world.input(world.spec(row), "weights"), pairs()
    inputs = world.stages(spec, ["windows", "lower"], benchmark)
    student = first.Student(world.cell(spec, benchmark, inputs=inputs), world.arguments(spec)["lesson"])
    with (
        world.spied(first, "joined", lambda prompts, lengths, answers: answers) as answers,
        world.spied(first, "objective", lambda kind, z, tokens, s, ranks, *_: (tokens, ranks)) as lessons,
    ):
        for i in range(3):
            student.step(i)
    pieces = [answer for part in answers for answer in np.asarray(part).tolist()]
    return pieces + [row.tolist() for part in lessons for both in part for row in both]


def students(world: World) -> tuple[Seen, Seen]:
    return taught(world, "first.joint"), taught(world, "first.placebo")


def fed_back(world: World, row: str) -> Seen:
    """The passages, in the teacher's order, that a query's vector is moved by."""
    benchmark, rng = pairs(), np.random.default_rng(0)
    teacher = {q: {d: -float(i) for i, d in enumerate(rng.permutation(PLACES)[:7])} for q in benchmark.queries}
    embeddings = {"embeddings": rng.normal(size=(len(PLACES), 384)).astype(np.float32)}
    spec = world.spec(row)
    with world.spied(first, "refine", lambda query, passages, *_: passages.tolist()) as seen:
        world.call(spec, world.cell(spec, benchmark, inputs={"embeddings": embeddings, "teacher": teacher}))
    return seen


def feedback(world: World) -> tuple[Seen, Seen]:
    own, destroyed = fed_back(world, "first.feedback_minilm"), fed_back(world, "first.feedback_random")
    assert [sorted(x) for x in own] == [sorted(x) for x in destroyed]  # the same passages, in another order
    return own, destroyed


# --- MW loss ---------------------------------------------------------------------------------------------------------


def labelled(world: World, row: str) -> Seen:
    """Which passage of a batch is each query's positive, and which are its negatives."""
    spec, benchmark = world.input(world.spec(row), "weights"), pairs()
    lesson = world.arguments(spec)["lesson"]
    inputs = world.stages(spec, ["negatives", "lower"], benchmark)
    task = mw_loss.Encoding(world.cell(spec, benchmark, inputs=inputs), lesson)
    with world.spied(mw_loss.LOSSES, lesson.loss, lambda s, positive, negative, tau: (positive, negative)) as seen:
        for i in range(3):
            task.step(i)
    return [part.tolist() for both in seen for part in both]


def labels(world: World) -> tuple[Seen, Seen]:
    return labelled(world, "mw_loss.mw"), labelled(world, "mw_loss.permuted")


# --- AnyLoss ---------------------------------------------------------------------------------------------------------


def folds(world: World, placebo: str) -> tuple[Seen, Seen]:
    """The training labels of every fold: the same number of each, in another order."""
    rng, rows = np.random.default_rng(0), 60
    y = (np.arange(rows) % 4 == 0).astype(int)
    held = np.stack([np.where(np.arange(rows) % 10 == i, -1, y) for i in range(10)])
    benchmark = TabularBenchmark("test/rows", {"t": Task("t", "made up", rng.normal(size=(rows, 3)), held)})
    spec, seen = world.spec(placebo), {}

    def decide(model: str, folds: Any, arms: Any, *_: Any, **__: Any) -> Any:
        seen.update({arm.name: [f.train_y.tolist() for f in folds] for arm in arms})
        return {arm.name: [np.zeros(len(f.test_x), int) for f in folds] for arm in arms}

    world.patch.setattr(anyloss, "decide", decide)
    world.call(spec, world.cell(spec, benchmark))
    name = placebo.split("_", 1)[1]
    own, destroyed = seen[name.removesuffix("_shuffled")], seen[name]
    assert [sum(x) for x in own] == [sum(x) for x in destroyed]
    return own, destroyed


# --- LOST ------------------------------------------------------------------------------------------------------------


def channels(world: World, row: str) -> Seen:
    """The channels that each layer of a form keeps dense."""
    spec = world.spec(row)
    form, d, ffn = world.arguments(spec)["form"], spec["params"]["d"], spec["params"]["ffn"]
    layers = [(d, d), (ffn, d), (d, ffn)]
    weights = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(layers)]
    return [lost.Mixed(w, form, d, torch.Generator().manual_seed(0)).index.tolist() for w in weights]


def drawn(world: World, placebo: str) -> tuple[Seen, Seen]:
    """Neither LOST's own channels nor those of the other draw, which is the floor."""
    (other,) = {"lost.random_channels", "lost.other_channels"} - {placebo}
    return channels(world, "lost.lost") + channels(world, other), 2 * channels(world, placebo)


# --- SuperGlobal -----------------------------------------------------------------------------------------------------


def pictures(configuration: str) -> dict[str, Any]:
    """Forty pictures and six queries with random descriptors."""
    rng, documents = np.random.default_rng(0), [f"d{i:02d}" for i in range(40)]
    queries = {f"q{i}": Query(f"q{i}", "", "test", image=f"q{i}") for i in range(6)}
    pixels = {name: np.zeros((2, 2, 3), np.uint8) for name in [*documents, *queries]}
    found = ImageBenchmark("test/pictures", queries, {d: Document(d, "", "", image=d) for d in documents}, {}, pixels)
    vectors = superglobal.unit(rng.normal(size=(len(pixels), 8)))
    order = {q: [str(d) for d in rng.permutation(documents)] for q in queries}
    return {"benchmark": found, "candidates": order, "inputs": {"descriptors": {configuration: vectors}}}


def reranked(world: World, row: str) -> Seen:
    """The vectors of a query's candidates, in their order."""
    spec = world.spec(row)
    with world.spied(superglobal.MODES, "superglobal", lambda q, v, **_: v.tolist()) as seen:
        world.call(spec, world.cell(spec, **pictures(spec["params"]["configuration"])))
    return seen


def shuffled_candidates(world: World) -> tuple[Seen, Seen]:
    own, destroyed = reranked(world, "superglobal.full_superglobal"), reranked(world, "superglobal.placebo")
    assert [sorted(x) for x in own] == [sorted(x) for x in destroyed]
    return own, destroyed


def shuffled_database(world: World) -> tuple[Seen, Seen]:
    spec = world.spec("superglobal.chance")
    with world.spied(superglobal, "_nearest", lambda cell, q, x, *_: x.tolist()) as seen:
        outputs = world.call(spec, world.cell(spec, **pictures(spec["params"]["permuted"])))
    assert list(outputs) == [spec["params"]["permuted"], "chance"]
    return seen[:1], seen[1:]


# --- every placebo ---------------------------------------------------------------------------------------------------

SEEN: dict[str, Callable[[World], tuple[Seen, Seen]]] = {
    "baselines.dense_decoy": lambda world: asked(world, "baselines.dense", "baselines.dense_decoy"),
    "baselines.query_likelihood_decoy": lambda world: scored(
        world, "baselines.query_likelihood", "baselines.query_likelihood_decoy"
    ),
    "baselines.cross_encoder_decoy": lambda world: asked(
        world, "baselines.cross_encoder", "baselines.cross_encoder_decoy"
    ),
    "icr.placebo": lambda world: scored(world, "icr.full", "icr.placebo"),
    "first.placebo": students,
    "first.feedback_random": feedback,
    "mw_loss.permuted": labels,
    "anyloss.slp_any_f1_shuffled": lambda world: folds(world, "anyloss.slp_any_f1_shuffled"),
    "anyloss.slp_any_bacc_shuffled": lambda world: folds(world, "anyloss.slp_any_bacc_shuffled"),
    "anyloss.mlp_any_f1_shuffled": lambda world: folds(world, "anyloss.mlp_any_f1_shuffled"),
    "anyloss.mlp_any_bacc_shuffled": lambda world: folds(world, "anyloss.mlp_any_bacc_shuffled"),
    "lost.other_channels": lambda world: drawn(world, "lost.other_channels"),
    "lost.random_channels": lambda world: drawn(world, "lost.random_channels"),
    "superglobal.placebo": shuffled_candidates,
    "superglobal.chance": shuffled_database,
}


def test_every_placebo_is_looked_at() -> None:
    cards = load_cards().values()
    tested = [claim for card in cards if card.implemented for claim in claims.of(card) if claim.role == "placebo"]
    assert SEEN.keys() == {claim.terms[0].arm for claim in tested}


@pytest.mark.parametrize("row", SEEN)
def test_a_placebo_sees_other_things_than_its_arm(world: World, row: str) -> None:
    own, destroyed = SEEN[row](world)
    assert len(own) == len(destroyed) > 0
    same = [i for i, (a, b) in enumerate(zip(own, destroyed, strict=True)) if a == b]
    assert not same, f"{len(same)} of {len(own)} pieces that {row} is shown are those of the arm"
