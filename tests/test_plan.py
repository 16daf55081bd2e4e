"""The plan: digests say what determines a result, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from rankrepro import signatures
from rankrepro.cards import load_cards
from rankrepro.code import Code
from rankrepro.errors import ConfigError, UnknownName
from rankrepro.plan import make_plan, stale
from tests_support import ROOT, TOY_CARD, TOY_METHOD, TOY_WORDS, new_card


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """papers/ and methods/ with two toy papers that share a part but not a module."""
    (tmp_path / "methods" / "parts").mkdir(parents=True)
    (tmp_path / "methods" / "parts" / "toy_words.py").write_text(TOY_WORDS)
    (tmp_path / "methods" / "toy.py").write_text(TOY_METHOD)
    (tmp_path / "methods" / "toy2.py").write_text(TOY_METHOD)
    new_card(tmp_path, "toy").write_text(TOY_CARD)
    new_card(tmp_path, "toy2").write_text(
        TOY_CARD.replace("toy.", "toy2.").replace("key: toy", "key: toy2").replace("toy-over", "toy2-over")
    )
    return tmp_path


def digests(house: Path, papers: str = "all") -> dict[str, str]:
    plan = make_plan(load_cards(house / "papers"), "quick", papers, code=Code(root=house))
    return {f"{n.name}#{n.spec['seed']}": n.digest for n in plan.nodes.values()}


def test_an_edit_of_a_part_changes_the_nodes_that_reach_it(house: Path) -> None:
    before = digests(house)
    for file in (house / "methods").rglob("*.py"):
        file.write_text(file.read_text() + "\n# a comment\n")
    assert digests(house) == before
    words = house / "methods" / "parts" / "toy_words.py"
    words.write_text(words.read_text().replace("> 3", "> 2"))
    after = digests(house)
    assert {name.split(".")[1] for name in before if before[name] != after[name]} == {"lexical#0", "overlap#0"} | {
        f"noise#{seed}"
        for seed in (0, 1)  # it re-ranks what `lexical` found
    }


@pytest.mark.parametrize(
    ("old", "new", "affected"),
    [
        ("depth: 5}, params", "depth: 4}, params", {"toy.overlap#0"}),
        ("batch: 2", "batch: 3", {"toy.overlap#0"}),
        ("fn: toy.overlap", "fn: toy2.overlap", set()),  # the same code in another module
        ("k: 10", "k: 11", {"toy.lexical#0", "toy.overlap#0", "toy.noise#0", "toy.noise#1"}),
        ("all: 12", "all: 13", {"toy.lexical#0", "toy.overlap#0", "toy.noise#0", "toy.noise#1"}),
        ("title: A toy paper", "title: Another", set()),
        ("min_effect: 0.01", "min_effect: 0.02", set()),
    ],
)
def test_what_a_digest_covers(house: Path, old: str, new: str, affected: set[str]) -> None:
    before = digests(house, "toy")
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    after = digests(house, "toy")
    assert {k for k in before if before[k] != after[k]} == affected


def test_identical_arms_of_two_papers_are_one_cell(house: Path) -> None:
    card = house / "papers" / "llm_rerankers" / "toy2.yaml"
    card.write_text(card.read_text().replace("fn: toy2.", "fn: toy."))
    plan = make_plan(load_cards(house / "papers"), "quick", code=Code(root=house))
    assert len(plan.nodes) == 4  # lexical, overlap, noise with two seeds
    assert plan.rows["toy.overlap"]["vital-mini/fever"] == plan.rows["toy2.overlap"]["vital-mini/fever"]


def test_jobs_hold_every_node_once_and_wait_for_what_they_need(house: Path) -> None:
    plan = make_plan(load_cards(house / "papers"), "quick", code=Code(root=house))
    home = {n.digest: j.id for j in plan.jobs.values() for n in j.nodes}
    assert sum(len(j.nodes) for j in plan.jobs.values()) == len(plan.nodes) == len(home)
    for job in plan.jobs.values():
        assert {home[d] for n in job.nodes for d in n.needs()} - {job.id} == set(job.needs)
        assert job.id not in job.needs


STAGES = """
stages:
  learn:
    {fn: toy.lexical, inputs: [benchmark], params: {k: 5}, seeds: [0, 1], benchmark: {quick: vital-mini/pairs}}
  embed: {fn: toy.lexical, inputs: {corpus: corpus, weights: learn}, params: {k: 5}, seeds: [0, 1]}
"""


def with_stages(house: Path) -> None:
    """toy trains on vital-mini/pairs for arms on two other benchmarks; toy2 reads toy's stage."""
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    text = card.read_text().replace("arms:\n", STAGES.lstrip() + "arms:\n", 1)
    text = text.replace("quick: [vital-mini/fever]", "quick: [vital-mini/fever, vital-mini/climate-fever]")
    card.write_text(text.replace("depth: 5}, seeds", "depth: 5}, inputs: {w: learn, e: embed}, seeds"))
    other = house / "papers" / "llm_rerankers" / "toy2.yaml"
    other.write_text(other.read_text().replace("depth: 5}, seeds", "depth: 5}, inputs: {w: toy.learn}, seeds"))


def test_a_stage_on_a_benchmark_of_its_own_is_one_for_all_arms_and_cards(house: Path) -> None:
    with_stages(house)
    plan = make_plan(load_cards(house / "papers"), "quick", code=Code(root=house))
    learn = {n.spec["seed"]: n for n in plan.nodes.values() if n.name == "toy.learn"}
    embed = {n.spec["seed"]: n for n in plan.nodes.values() if n.name == "toy.embed"}
    assert set(learn) == set(embed) == {0, 1}  # the two benchmarks share their corpus
    assert {n.benchmark for n in learn.values()} == {"vital-mini/pairs"}
    for seed, node in embed.items():
        assert node.spec["inputs"] == {"weights": {"digest": learn[seed].digest, "variant": ""}}
    for row in ("toy.noise", "toy2.noise"):
        for cells in plan.rows[row].values():
            for seed, digest, _ in cells:
                assert plan.nodes[digest].spec["inputs"]["w"]["digest"] == learn[seed].digest


def test_an_input_may_be_one_of_several_things_that_a_stage_returned(house: Path) -> None:
    with_stages(house)
    card, other = house / "papers/llm_rerankers/toy.yaml", house / "papers/llm_rerankers/toy2.yaml"
    card.write_text(card.read_text().replace("{w: learn, e: embed}", "{w: learn.weights, e: embed}"))
    other.write_text(other.read_text().replace("w: toy.learn", "w: toy.learn.notes"))
    plan = make_plan(load_cards(house / "papers"), "quick", code=Code(root=house))
    read = {n.name: n.spec["inputs"] for n in plan.nodes.values() if n.spec["seed"] == 0}
    learn = next(n.digest for n in plan.nodes.values() if n.name == "toy.learn" and n.spec["seed"] == 0)
    assert read["toy.noise"]["w"] == {"digest": learn, "variant": "weights"}
    assert read["toy2.noise"]["w"] == {"digest": learn, "variant": "notes"}


def test_a_stage_without_a_benchmark_for_the_scale_or_with_a_misspelt_input_is_named(house: Path) -> None:
    with_stages(house)
    with pytest.raises(ConfigError, match=r"stages\.learn\.benchmark has none for scale desk"):
        make_plan(load_cards(house / "papers"), "desk", ["toy"], code=Code(root=house))
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    card.write_text(card.read_text().replace("weights: learn", "weights: lern"))
    with pytest.raises(UnknownName, match=r"stages\.embed\.inputs\.weights"):
        load_cards(house / "papers")


def test_parameters_of_all_arms_are_replaced_by_an_arms_own_for_the_scale(house: Path) -> None:
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    scales = "quick: {sample: {all: 12}, params: {all: {k: 7, batch: 9}, overlap: {batch: 4}}}"
    card.write_text(card.read_text().replace("quick: {sample: {all: 12}}", scales))
    (house / "papers" / "seconds.yaml").write_text("quick: {toy: {lexical: 2.0}}\n")
    plan = make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))
    nodes = {n.name: n for n in plan.nodes.values()}
    assert nodes["toy.lexical"].spec["params"] == {"k": 7}
    assert nodes["toy.overlap"].spec["params"] == {"batch": 4}
    assert nodes["toy.lexical"].seconds == 2.0 * 12


# --- what a card says without meaning it ---


def test_a_stage_that_draws_is_not_shared_by_arms_with_several_seeds(house: Path) -> None:
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    stages = "stages:\n  start: {fn: toy.start, inputs: [benchmark]}\n"
    stages += "  trained: {fn: toy.lexical, inputs: [start], params: {k: 5}}\n"
    plain = card.read_text().replace("arms:\n", stages + "arms:\n", 1)
    plain = plain.replace("depth: 5}, seeds", "depth: 5}, inputs: {w: trained}, seeds")
    method = house / "methods" / "toy.py"
    method.write_text(
        method.read_text() + "\n\ndef start(cell):\n    return Weights(cell).drawn()\n"
        "\n\nclass Weights:\n    def __init__(self, cell):\n        self.cell = cell\n"
        "\n    def drawn(self):\n        return words(str(self.cell.seed))\n"
    )

    def seeds_of_start(text: str) -> set[int]:
        card.write_text(text)
        plan = make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))
        return {n.spec["seed"] for n in plan.nodes.values() if n.name == "toy.start"}

    with pytest.raises(
        ConfigError, match=r"stages\.start: toy\.start uses cell\.seed, .*toy\.noise .*\[0, 1\].*`seeds: "
    ):
        seeds_of_start(plain)
    assert seeds_of_start(plain.replace("[benchmark]}", "[benchmark], seeds: [0]}")) == {0}
    assert seeds_of_start(plain.replace("[benchmark]}", "[benchmark], seeds: [3]}")) == {3}
    several = plain.replace("[benchmark]}", "[benchmark], seeds: [0, 1]}")
    assert seeds_of_start(several.replace("params: {k: 5}}", "params: {k: 5}, seeds: [0, 1]}")) == {0, 1}
    assert seeds_of_start(plain.replace("seeds: [0, 1]}", "seeds: [0]}")) == {0}, "nothing is shared"
    method.write_text(method.read_text().replace("self.cell.seed", "self.cell.name"))
    assert seeds_of_start(plain) == {0}, "nothing is drawn"


@pytest.mark.parametrize(
    ("split", "sample", "answer"),
    [
        # vital-mini/fever has 84 test queries among 117: 12 of both splits hold about 9
        ("[test]", 12, r"a sample of 12 queries of test, and its first stage toy\.lexical answers a sample of 12"),
        ("[test]", 4, ""),
        ("[train, test]", 13, r"13 queries of train and test, .* a sample of 12 queries of train and test: give"),
        ("[train, test]", 12, ""),
        ("[validation, test]", 4, r"of validation and test, .* of train and test"),
        ("[test]", "null", r"of test, and its first stage"),
    ],
)
def test_a_sample_that_its_first_stage_does_not_answer_is_refused(
    house: Path, split: str, sample: int | str, answer: str
) -> None:
    other = house / "papers" / "llm_rerankers" / "toy2.yaml"
    text = (
        other.read_text()
        .replace("from: lexical", "from: toy.lexical")
        .replace("split: [train, test]", f"split: {split}")
    )
    other.write_text(text.replace("quick: {sample: {all: 12}}", f"quick: {{sample: {{all: {sample}}}}}"))
    if answer:
        with pytest.raises(
            ConfigError, match=rf"toy2\.yaml: arms\.overlap: on vital-mini/fever it re-ranks .*{answer}"
        ):
            digests(house, "toy2")
    else:
        digests(house, "toy2")


def test_an_unknown_variant_of_a_stage_is_answered_with_the_nearest(house: Path) -> None:
    with_stages(house)
    method, card = house / "methods" / "toy.py", house / "papers" / "llm_rerankers" / "toy.yaml"
    body = "def lexical(cell, *, k: int):\n    found = {}\n"
    returns = 'def lexical(cell, *, k: int):\n    if k:\n        return {"weights": 1, "notes": 2}\n    found = {}\n'
    last = '    return {"weights": found, "notes": k}\n\n\ndef overlap'
    assert body in method.read_text()
    method.write_text(
        method.read_text().replace(body, returns).replace("    return Retrieval(found)\n\n\ndef overlap", last)
    )
    (house / "methods" / "toy2.py").write_text(method.read_text())
    plain = card.read_text()

    def plan(source: str) -> None:
        card.write_text(plain.replace("weights: learn", f"weights: {source}"))
        make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))

    plan("learn.weights")
    plan("learn.notes")
    with pytest.raises(
        UnknownName, match=r"stages\.embed\.inputs\.weights: .*unknown variant 'wieghts'; did you mean 'weights'"
    ):
        plan("learn.wieghts")
    method.write_text(method.read_text().replace(last, "    return found\n\n\ndef overlap"))
    plan("learn.wieghts")  # what is not spelt out is believed


def test_the_plan_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom rankrepro import status\nfrom rankrepro.plan import make_plan\n"
        "from rankrepro.cards import load_cards\nmake_plan(load_cards(), 'desk')\n"
        "print([m for m in ('torch', 'transformers', 'ranx', 'mlflow', 'pandas', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("params: {batch: 2}", "params: {bacth: 2}", "arms.overlap.params: unknown parameter 'bacth'; did you mean"),
        ("params: {batch: 2}", "params: {}", "arms.overlap: toy.overlap needs the parameter 'batch'"),
        ("params: {batch: 2}", "params: {batch: two}", "arms.overlap.params.batch: 'two' is not of the type"),
        ("sample: {all: 12}", "sample: {all: 12}, params: {all: {bacth: 2}}", "unknown parameter 'bacth'"),
        ("sample: {all: 12}", "sample: {all: 12}, params: {toy.noise: {k: 2}}", "unknown parameter 'k'"),
        ("sample: {all: 12}", "sample: {all: 12}, params: {toy.niose: {k: 2}}", "did you mean 'toy.noise'"),
        ("fn: toy.noise", "fn: toy.niose", "unknown function 'niose'; did you mean 'noise'"),
        ("fn: toy.noise", "fn: tyo.noise", "unknown method module 'tyo'; did you mean 'toy'"),
    ],
)
def test_what_a_signature_does_not_have_is_answered(house: Path, old: str, new: str, answer: str) -> None:
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new, 1))
    with pytest.raises((ConfigError, UnknownName)) as caught:
        make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))
    assert "papers/toy.yaml" in str(caught.value) or "toy.yaml" in str(caught.value)
    assert answer in str(caught.value)


@pytest.mark.parametrize(("attribute", "what"), [("models", "model"), ("inputs", "input")])
def test_a_model_or_an_input_that_the_code_takes_and_the_card_lacks_is_named(
    house: Path, attribute: str, what: str
) -> None:
    method = house / "methods" / "toy.py"
    method.write_text(
        method.read_text().replace("    def score(units):", f'    cell.{attribute}["llm"]\n\n    def score(units):')
    )
    with pytest.raises(ConfigError, match=f"arms.overlap: toy.overlap takes the {what} 'llm'; add `{attribute}: "):
        make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))


def test_a_circle_of_arms_and_stages_is_named(house: Path) -> None:
    with_stages(house)
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    text = card.read_text().replace("weights: learn", "weights: learn, x: noise")
    card.write_text(text)
    with pytest.raises(ConfigError, match=r"toy\.noise -> toy\.embed -> toy\.noise: each reads the next"):
        make_plan(load_cards(house / "papers"), "quick", ["toy"], code=Code(root=house))


def test_no_node_has_a_parameter_that_its_function_does_not_take() -> None:
    for scale in ("quick", "desk", "paper", "rehearsal"):
        for node in make_plan(load_cards(), scale).nodes.values():
            if node.spec["kind"] != "timing":
                assert set(node.spec["params"]) <= set(signatures.of(node.spec["fn"]).parameters), node.name


def test_one_benchmark_of_a_card_alone() -> None:
    whole, alone = (make_plan(load_cards(), "desk", ["icr"], only) for only in ("all", "vital/fever"))
    assert alone.benchmarks == {"icr": ["vital/fever"]}
    assert set(alone.nodes) < set(whole.nodes)
    assert {n.benchmark for n in alone.nodes.values()} == {"vital/fever"}
    with pytest.raises(UnknownName, match="did you mean 'vital/fever'"):
        make_plan(load_cards(), "desk", ["icr"], "vital/fevr")
    papers = make_plan(load_cards(), "desk", ["icr", "superglobal"], "freedoom/vpr").papers
    assert papers == ["superglobal"]


def test_what_makes_a_report_stale() -> None:
    cards = load_cards()
    now = {key: make_plan(cards, "desk", [key]).paper_nodes[key] for key in ("icr", "baselines")}
    assert stale(cards, "desk", now) == {}
    assert stale(cards, "desk", {}) == {}
    icr = now["icr"]
    assert stale(cards, "desk", now | {"icr": icr[1:]}) == {"icr": f"1 of {len(icr)} results would be computed again"}
    assert "1 of" in stale(cards, "desk", {"icr": [*icr, "f" * 64]})["icr"]
    assert "no longer" in stale(cards, "desk", {"icr": [*icr, "f" * 64]})["icr"]
    # papers that cannot be planned do not hide the others
    bare = next(key for key, card in cards.items() if not card.arms)
    reasons = stale(cards, "desk", now | {bare: icr, "gone": icr})
    assert set(reasons) == {bare, "gone"} and "no method" in reasons[bare] and "unknown paper" in reasons["gone"]


@pytest.mark.parametrize("scale", ["quick", "desk", "paper"])
@pytest.mark.parametrize("shortest", [60.0, 500.0])
def test_no_two_jobs_of_the_cards_wait_for_each_other(scale: str, shortest: float) -> None:
    cards = load_cards()
    apart, together = (make_plan(cards, scale, shortest=s) for s in (0.0, shortest))
    assert set(together.nodes) == set(apart.nodes)
    assert sorted(n.digest for j in together.jobs.values() for n in j.nodes) == sorted(apart.nodes)
    order = list(TopologicalSorter({j.id: j.needs for j in together.jobs.values()}).static_order())
    home = {n.digest: j.id for j in together.jobs.values() for n in j.nodes}
    for job in together.jobs.values():
        done: set[str] = set()
        for node in job.nodes:
            assert all(d in done or order.index(home[d]) < order.index(job.id) for d in node.needs())
            done.add(node.digest)
        assert {n.spec["threads"] for n in job.nodes} == {job.threads}


def test_models_multiply_in_bfloat16_at_the_scales_that_say_so() -> None:
    def mixed(scale: str) -> set[tuple[str, bool]]:
        nodes = make_plan(load_cards(), scale, ["baselines"]).nodes.values()
        return {(m["id"], m.get("mixed", False)) for n in nodes for m in n.spec["models"].values()}

    assert mixed("quick") == {("all-minilm-l6-v2", True), ("smollm2-135m-instruct", False)}
    encoders = {("all-minilm-l6-v2", False), ("all-mpnet-base-v2", False)}
    assert mixed("desk") == encoders | {("smollm2-135m-instruct", True), ("qwen2.5-coder-0.5b-instruct", True)}


def test_a_benchmark_may_be_answered_on_another_split(house: Path) -> None:
    card = house / "papers" / "llm_rerankers" / "toy.yaml"
    text = card.read_text()
    card.write_text(text.replace("split: [train, test]", "split: {default: [train, test], vital-mini/fever: [test]}"))
    plan = make_plan(load_cards(house / "papers"), "quick", "toy", code=Code(root=house))
    assert {tuple(n.spec["queries"]["split"]) for n in plan.nodes.values()} == {("test",)}
    card.write_text(text.replace("split: [train, test]", "split: {default: [train, test], vital-mini/fevr: [test]}"))
    with pytest.raises(UnknownName, match=r"split: unknown benchmark 'vital-mini/fevr'.*vital-mini/fever"):
        load_cards(house / "papers")
