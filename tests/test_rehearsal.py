"""Scale rehearsal: scale paper's plan against stand-ins, which lie where the real things would and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from string import ascii_uppercase
from types import SimpleNamespace
from typing import Any

import pytest

from rankrepro import artifacts, benchmarks, budget, models, rehearsal, signatures
from rankrepro.artifacts import Artifact, ModelEntry
from rankrepro.benchmarks import msls
from rankrepro.cards import load_cards
from rankrepro.errors import ConfigError
from rankrepro.plan import Node, load_scale, make_plan
from rankrepro.rehearsal import data
from rankrepro.rehearsal import models as stand_in_models
from tests_support import ROOT, make_project

CARDS = load_cards()
PAPERS = [key for key, card in CARDS.items() if card.implemented and card.benchmarks_at("paper")]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with stand-ins."""
    folder = tmp_path_factory.mktemp("results")
    rehearsal.make(folder)
    return folder


def inside(results: Path, script: str) -> Any:
    """What `script` prints, as JSON, in a process that uses the stand-ins; both caches of the user are empty ones."""
    home = results / "home"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(home), "RANKREPRO_CACHE": str(home / "cache")}
    opening = "import json\nfrom pathlib import Path\nfrom rankrepro import rehearsal\n"
    opening += f"rehearsal.enter(Path({str(results)!r}))\n"
    done = subprocess.run([sys.executable, "-c", opening + script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not home.exists(), "something was written outside the stand-ins"
    return json.loads(done.stdout.splitlines()[-1])


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PAPERS)
def test_the_plan_is_that_of_scale_paper_made_small(key: str) -> None:
    paper, small = make_plan(CARDS, "paper", [key]), make_plan(CARDS, "rehearsal", [key])
    instead = small.scale["instead"]

    def cells(nodes: Any) -> set[tuple[Any, ...]]:
        return {(n.name, n.spec["fn"], instead.get(n.benchmark, n.benchmark), *sorted(n.spec["models"])) for n in nodes}

    first = [n for n in paper.nodes.values() if n.spec["seed"] == 0]
    assert cells(first) == cells(small.nodes.values())
    assert {m["id"] for n in first for m in n.spec["models"].values()} == {
        m["id"] for n in small.nodes.values() for m in n.spec["models"].values()
    }
    for node in small.nodes.values():
        assert node.spec["dtype"] == "bfloat16" and node.spec["stand_ins"] == rehearsal.version()
        sizes = signatures.of(node.spec["fn"]).parameters
        for name, value in node.spec["params"].items():
            most, size = sizes[name].rehearsal, len(value) if isinstance(value, list) else value
            assert most is None or size is None or size <= most, (node.name, name)
    assert not set(small.nodes) & {d for scale in ("quick", "desk", "paper") for d in make_plan(CARDS, scale).nodes}


def test_a_local_copy_changes_the_plan_of_scale_paper_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digests(scale: str) -> set[str]:
        benchmarks.digest.cache_clear()
        return set(make_plan(CARDS, scale, ["superglobal"]).nodes)

    monkeypatch.delenv(msls.FOLDER, raising=False)
    paper, small = digests("paper"), digests("rehearsal")
    (tmp_path / "train_val/cph/query").mkdir(parents=True)
    (tmp_path / "train_val/cph/query/raw.csv").write_text(",key\n")
    monkeypatch.setenv(msls.FOLDER, str(tmp_path))
    assert digests("rehearsal") == small and digests("paper") != paper
    benchmarks.digest.cache_clear()


def test_a_scale_takes_from_another_what_it_does_not_say() -> None:
    assert load_scale("rehearsal")["models"] == load_scale("paper")["models"]
    assert load_scale("rehearsal")["verdicts"] is False


# --- the stand-ins ---------------------------------------------------------------------------------------------------

BUILD = """
from rankrepro import benchmarks
found = {}
for e in benchmarks.entries():
    if e.builder in benchmarks.STOOD_IN:
        folder = benchmarks.build(e.id, Path("nowhere"), Path(%r) / e.id)
        b, truth = benchmarks.load(folder, e.id), benchmarks.load_truth(folder)
        first = next(iter(truth.qrels))
        found[e.id] = [len(b.queries), len(list(b.corpus)), b.corpus[next(iter(truth.qrels[first]))].text[:8],
                       max(max(q.values()) for q in truth.qrels.values())]
print(json.dumps(found))
"""


def test_every_data_set_is_read_by_its_own_loader(results: Path, tmp_path: Path) -> None:
    shapes = inside(results, BUILD % str(tmp_path))
    assert {"beir/fever/test", "beir/dbpedia-entity/test", "beir/climate-fever", "bright/pony"} <= set(shapes)
    pictures = shapes.pop("msls/val")
    assert pictures[:2] == [64, 30] and pictures[3] == 1
    assert all(documents == 120 for _, documents, _, _ in shapes.values())
    assert shapes["beir/fever/test"][0] == 4 and shapes["beir/climate-fever"][0] == 12
    assert shapes["msmarco-passage/trec-dl-2019/judged"][0] == 6
    assert shapes["msmarco-passage/trec-dl-2019/judged"][3] == 3  # graded


LOAD = """
from rankrepro import artifacts, models
a = artifacts.load_catalogue()["llama-3.1-8b-instruct"]
folder = artifacts.verify(a)
lm = models.load(models.spec(a), 1, "bfloat16")
print(json.dumps([str(folder), len(list(folder.glob("*.safetensors"))), type(lm.model).__name__, str(lm.model.dtype),
                  lm.model.config.rope_parameters["rope_type"]]))
"""


def test_a_hub_model_is_fetched_verified_and_loaded_offline(results: Path) -> None:
    folder, files, kind, dtype, rope = inside(results, LOAD)
    assert folder.startswith(str(rehearsal.marker(results).parent)) and files > 1
    assert (kind, dtype, rope) == ("LlamaForCausalLM", "torch.bfloat16", "llama3")


def test_an_encoder_of_the_hub_has_a_stand_in(tmp_path: Path) -> None:
    from methods.parts.retrieval.encoder import encode

    entry = ModelEntry("encoder", "safetensors")
    hub = Artifact("bert-base", "hub", "-", "-", "owner/bert", revision="r", size=1, members=("*",), model=entry)
    stand_in_models.make([hub], tmp_path)
    folder = tmp_path / "models--owner--bert" / "snapshots" / "r"
    loaded = models.load(models.ModelSpec(hub.id, "encoder", folder, "d"), 1)
    vectors = encode(loaded, ["one text", "another, longer text"], 16, 2)
    assert vectors.shape == (2, 32) and abs((vectors**2).sum(1) - 1).max() < 1e-5


def test_no_stand_in_is_an_error_that_says_where_to_add_it(tmp_path: Path) -> None:
    entry = ModelEntry("causal-lm", "safetensors")
    hub = Artifact("gemma-9b", "hub", "-", "-", "g/g", revision="r", size=1, members=("*",), model=entry)
    with pytest.raises(ConfigError, match=r"gemma-9b.*ARCHITECTURES"):
        stand_in_models.make([hub], tmp_path)
    with pytest.raises(ConfigError, match=r"beir/nq.*rehearsal/data\.py"):
        data.make(["beir/nq"], tmp_path)


def test_a_process_elsewhere_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(artifacts.STAND_INS, raising=False)
    before = dict(os.environ)
    rehearsal.enter(tmp_path / "results" / "paper" / "jobs" / "x.json")
    assert dict(os.environ) == before
    assert artifacts.hub_dir(tmp_path) == tmp_path / "hub"


IDENTIFIERS = """
from rankrepro import artifacts, models
from methods.parts.language.identifiers import Identifiers
lm = models.load(models.spec(artifacts.load_catalogue()["llama-3.1-8b-instruct"]), 1, "bfloat16")
identifiers = Identifiers(lm)
print(json.dumps([
    [lm.tokenizer.convert_ids_to_tokens(place.paths[0]) for place in (identifiers.first(4), identifiers.later(4))],
    identifiers.answer([3, 0, 2]) == lm.tokenizer("[D] > [A] > [C]", add_special_tokens=False)["input_ids"],
]))
"""


def test_identifiers_are_read_as_llama_3_joins_them_to_the_bracket(results: Path) -> None:
    (first, later), same = inside(results, IDENTIFIERS)
    assert first == ["[A"] and later == ["Ġ>", "Ġ[", "A"]
    assert same


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("key", PAPERS)
def test_a_paper_runs_in_rehearsal(key: str, tmp_path: Path) -> None:
    """About a minute each on two free cores."""
    project = make_project(tmp_path, [c for c in CARDS])
    project.run("scale=rehearsal", f"papers={key}", timeout=3600)
    results = json.loads((tmp_path / "reports" / "rehearsal" / key / "results.json").read_text())
    assert results["scale"] == "rehearsal"
    assert {c["verdict"] for c in results["papers"][key]["claims"]} <= {"smoke", "not run", "identity"}
    assert any(t["rows"] for t in results["papers"][key]["tables"])
    for page in (f"rehearsal/{key}/index.html", "rehearsal/index.html", "rehearsal/summary.md"):
        assert "no number" in (tmp_path / "reports" / page).read_text()
    manifests = (tmp_path / "results" / "rehearsal" / "store").glob("*/manifest.json")
    assert all(json.loads(m.read_text())["spec"]["stand_ins"] == rehearsal.version() for m in manifests)


# --- the cost of scale paper -----------------------------------------------------------------------------------------


def test_the_page_is_of_today() -> None:
    page = (ROOT / budget.PAGE).read_text(encoding="utf-8")
    assert page == budget.page(CARDS), "run `python -m rankrepro internal paper-scale` and commit docs/paper-scale.md"
    assert all(f"| {key} |" in page for key in PAPERS)


def test_work_grows_as_parameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"tokens": SimpleNamespace(work=1), "d": SimpleNamespace(work=2), "batch": SimpleNamespace(work=0)}
    monkeypatch.setattr(signatures, "of", lambda fn: SimpleNamespace(parameters=sizes, trains=False))

    def node(fn: str, **params: Any) -> Node:
        spec = {"kind": "cell", "fn": fn, "params": params, "models": {"llm": {"id": "llama-3.1-8b-instruct"}}}
        return Node("x", "d", spec, 10.0, 1)

    assert budget.work(node("a.rank", tokens=400, batch=8), node("a.rank", tokens=40, batch=4)) == 10
    assert budget.work(node("a.rank", tokens=[1, 2, 3, 4], d=8), node("a.rank", tokens=[1], d=4)) == 16
    assert budget.work(node("a.rank", d=8), None) == budget.work(node("a.rank", d=8), node("a.rank")) == 1
    # 10 s of 135 million parameters on a core of 75 GFLOP/s, as 8.03 billion on 125 TFLOP/s
    assert budget.gpu_seconds(node("a.rank"), None) == pytest.approx(10 * 8.03e9 / 135e6 * 75e9 / 125e12, rel=0.01)
