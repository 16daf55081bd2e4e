"""The shelf: published results are files that readers may rely on, and every edit of one is named."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from shelf_support import CARD, KEY, publish, toy_cards

import rankrepro
from rankrepro.benchmarks import MARKER
from rankrepro.cards import Card, load_cards
from rankrepro.cli import check
from rankrepro.errors import ConfigError
from rankrepro.files import sha256
from rankrepro.inspection import inspect
from rankrepro.judge import earlier
from rankrepro.judge import results as judge
from rankrepro.judge.registration import git
from rankrepro.report import rebuild, shelf
from tests_support import ROOT

JUDGED = ("results.json", "units.json.gz", "examples.json")
PAPERS = sorted(file.parent for file in (ROOT / "reports" / "desk").glob("*/results.json"))


def read(file: Path) -> Any:
    data = file.read_bytes()
    return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)


@pytest.mark.parametrize("folder", PAPERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", JUDGED)
def test_it_is_what_its_schema_says(folder: Path, name: str) -> None:
    schema = read(ROOT / "workflow" / "schemas" / f"{name.partition('.')[0]}.schema.json")
    jsonschema.Draft202012Validator(schema).validate(read(folder / name))


@pytest.mark.parametrize("folder", PAPERS, ids=lambda folder: folder.name)
def test_rows_are_within_their_intervals_and_seeds_are_told(folder: Path) -> None:
    for table in read(folder / "results.json")["papers"][folder.name]["tables"]:
        for row in table["rows"]:
            assert len(row["by_seed"]) == row["seeds"], row
            if None not in row["ci"]:
                assert row["ci"][0] - 1e-9 <= row["value"] <= row["ci"][1] + 1e-9, row
            if table["where"] in ("train", "validation", "test"):
                assert row["split"] == table["where"], row


def test_the_tables_are_those_of_the_results(tmp_path: Path) -> None:
    for folder in PAPERS:
        (tmp_path / folder.name).mkdir()
        for name in (*JUDGED, *(f.name for f in folder.glob(earlier.FILE))):
            shutil.copy(folder / name, tmp_path / folder.name)
    rebuild(tmp_path, "desk")
    other = [f.name for f in PAPERS if (f / "tables.md").read_text() != (tmp_path / f.name / "tables.md").read_text()]
    assert not other, "run `rankrepro report` and commit reports/desk"


def test_nothing_but_results_and_tables_is_committed() -> None:
    done = subprocess.run(["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        pytest.skip("not a checkout of git")
    published = {f"reports/desk/{folder.name}/{name}" for folder in PAPERS for name in (*shelf.FILES, shelf.MANIFEST)}
    retired = {f"reports/desk/{key}/{earlier.FILE}" for key in load_cards()}  # of papers that wait for their next run
    assert set(done.stdout.split()) <= published | retired


# --- each kind of edit is named --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reports/desk/toy as it was published."""
    return publish(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def toy(original: Path, tmp_path: Path) -> Path:
    """A copy to edit."""
    return shutil.copytree(original, tmp_path / "desk" / KEY)


def edit(folder: Path, name: str, change: Callable[[Any], Any], honest: bool = False) -> None:
    """Change a published file and, unless the forger forgets it, the manifest beside it."""
    file = folder / name
    if name.endswith(".md"):
        file.write_text(change(file.read_text()))
    else:
        data = read(file)
        change(data)
        raw = json.dumps(data, indent=1, ensure_ascii=False).encode()
        file.write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)
    if not honest:
        shelf.write_manifest(folder)


def faults(folder: Path, cards: dict[str, Card] | None = None) -> list[str]:
    (paper,) = shelf.verify(cards or toy_cards(), folder.parent)
    return list(paper.faults)


def page(data: Any) -> Any:
    return data["papers"][KEY]


def claim(data: Any, name: str) -> Any:
    return next(c for c in page(data)["claims"] if c["id"] == name)


def put(where: Callable[[Any], Any], key: Any, value: Any) -> Callable[[Any], None]:
    """An edit: one value of what `where` finds in a file."""

    def change(data: Any) -> None:
        found = where(data)
        assert found[key] != value
        found[key] = value

    return change


def drop(claims: list[Any], name: str) -> None:
    claims.remove(next(c for c in claims if c["id"] == name))


def row(data: Any, measure: str, table: int = 0) -> Any:
    return next(r for r in page(data)["tables"][table]["rows"] if r["measure"] == measure and r["arm"] == "toy.good")


def values_of(data: Any, measure: str = "nDCG@10") -> Any:
    return next(r for r in data["rows"] if r["arm"] == "toy.good" and r["measure"] == measure)["values"]


RESULTS, UNITS = "results.json", "units.json.gz"


def test_what_nobody_edited_follows_from_its_units(original: Path) -> None:
    (paper,) = shelf.verify(toy_cards(), original.parent)
    assert not paper.faults
    assert str(paper) == ("toy: 6 claims and 22 rows follow from the published units; 4 more rows have no units here")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            RESULTS,
            put(lambda d: row(d, "RR"), "value", 0.9),
            "row 'toy.good on vital-mini/fever by RR': value: published 0.9",
        ),
        (RESULTS, put(lambda d: row(d, "nDCG@10")["ci"], 0, 0.4), r"by nDCG@10': ci\[0\]: published 0.4"),
        (
            RESULTS,
            put(lambda d: row(d, "RR")["against"], "letter", "b"),
            "by RR': against: letter: published b, computed a",
        ),
        (
            RESULTS,
            put(lambda d: row(d, "RR")["cost"], "seconds_per_unit", 9.0),
            "cost: seconds_per_unit: published 9.0",
        ),
        (RESULTS, put(lambda d: row(d, "RR", 1), "n", 9), "table 'several'.*: n: published 9"),
        (
            RESULTS,
            put(lambda d: claim(d, "toy-area"), "verdict", "reproduced"),
            "'toy-area': verdict: published reproduced, comp",
        ),
        (
            RESULTS,
            put(lambda d: claim(d, "toy-quality"), "effect", 0.5),
            "'toy-quality': effect: published 0.5, computed 0.",
        ),
        (RESULTS, put(lambda d: claim(d, "toy-quality"), "p", 0.5), "'toy-quality': p: published 0.5"),
        (
            RESULTS,
            put(lambda d: claim(d, "toy-quality")["guard"], "passed", False),
            "guard: passed: published false, computed true",
        ),
        (
            RESULTS,
            put(lambda d: claim(d, "toy-several"), "sentence", "It wins always."),
            "sentence: published It wins always., computed Also",
        ),
        (
            RESULTS,
            put(lambda d: claim(d, "toy-several"), "margin", 0.5),
            "'toy-several': margin: published 0.5, computed 0.05",
        ),
        (
            RESULTS,
            put(lambda d: page(d)["timings"][0], "ratio", 0.01),
            "timing 'good_over_noise': ratio: published 0.01",
        ),
        (RESULTS, lambda d: drop(page(d)["claims"], "toy-wins"), "claim 'toy-wins': published nothing, computed it"),
        (
            RESULTS,
            lambda d: page(d)["tables"][0]["rows"].pop(),
            "table 'main': row '.*': published nothing, computed it",
        ),
        (RESULTS, lambda d: page(d)["tables"].pop(), "table 'areas': published nothing, computed it"),
        (
            RESULTS,
            put(lambda d: page(d)["reported"][0], "value", 0.9),
            r"reported\[0\]: value: published 0.9, computed 0.7",
        ),
        (RESULTS, put(lambda d: d, "commit", "a" * 40), "commit a* is no commit of this history"),
        (RESULTS, put(lambda d: d, "claims_commit", "b" * 40), "claims_commit b* is no commit of this history"),
        (RESULTS, put(lambda d: d["totals"], "compute_s", 1.0), "compute_s: published 1.0"),
        (RESULTS, lambda d: d["digests"].pop(), "digests: published"),
        (
            RESULTS,
            put(lambda d: d["provenance"]["registered"], "toy-wins", "0" * 64),
            "claim 'toy-wins': the card registers",
        ),
        (UNITS, lambda d: values_of(d).popitem(), "claim 'toy-quality': .*: published"),
        (
            UNITS,
            lambda d: values_of(d).update({u: [1.0] * 3 for u in list(values_of(d))[:1]}),
            "claim 'toy-.*published 0",
        ),
        (
            UNITS,
            lambda d: d["benchmarks"]["vital-mini/fever"]["clusters"].clear(),
            "claim 'toy-quality': .*: published",
        ),
        (
            UNITS,
            lambda d: d["benchmarks"]["vital-mini/fever"]["tags"]["several_relevant"].pop(),
            "'toy-several': .*: published",
        ),
        (UNITS, lambda d: d["material"].pop(), "claim 'toy-area' of toy reads PooledAUC .* not published"),
        (UNITS, lambda d: d["timings"]["good_over_noise"]["a"].popitem(), "'toy-faster': .*: published"),
        (
            "examples.json",
            lambda d: d["claims"]["toy-quality"][0]["differences"].pop(),
            "examples of claim 'toy-quality' on vital-mini/fever",
        ),
        ("tables.md", lambda text: text.replace("0.", "0.9", 1), "tables.md is not what results.json and the card say"),
    ],
)
def test_an_edit_is_named(toy: Path, name: str, change: Callable[[Any], Any], words: str) -> None:
    edit(toy, name, change)
    found = faults(toy)
    assert found
    assert re.search(words, found[0]), found


def test_a_text_that_nothing_can_be_computed_from_is_held_by_the_manifest(toy: Path) -> None:
    edit(toy, "examples.json", put(lambda d: d["claims"]["toy-quality"][0]["details"][0], "query", "?"), honest=True)
    assert faults(toy) == ["examples.json has changed since it was published (manifest.json)"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("min_effect: 0.02", "min_effect: 0.9", "'toy-quality': verdict: published reproduced, computed not"),
        (
            "sentence: It wins.",
            "sentence: It loses.",
            "claim 'toy-wins': sentence: published It wins., computed It loses.",
        ),
        ("margin: 0.05", "margin: 0.5", "claim 'toy-.*published 0.*, computed"),
        (
            "k1: 0.4",
            "k1: 0.5",
            "stale: 2 of 13 results would be computed .*; run `make reproduce SCALE=desk PAPERS=toy`",
        ),
        ("{good: [0.7]", "{good: [0.6]", "reported.*published 0.7, computed 0.6"),
        ("measures: [nDCG@10, RR]", "measures: [RR]", "table 'main'.*published"),
    ],
)
def test_a_card_that_was_changed_after_the_run_is_named(toy: Path, before: str, after: str, words: str) -> None:
    assert before in CARD
    found = faults(toy, toy_cards(CARD.replace(before, after)))
    assert re.search(words, found[0]), found


def test_a_judge_that_was_changed_after_the_run_is_named(toy: Path, tmp_path: Path) -> None:
    def changed(before: str, after: str) -> str:
        copy = tmp_path / after
        shutil.copytree(Path(rankrepro.__file__).parent, copy / "rankrepro")
        file = copy / "rankrepro" / "judge" / "claims.py"
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after))
        return judge.code(copy)

    assert changed("PLACEBO_ALPHA = 0.001", "PLACEBO_ALPHA = 0.001  # a comment") == judge.code()
    other = changed("alpha: float = 0.05", "alpha: float = 0.2")
    assert other != judge.code()
    edit(toy, RESULTS, put(lambda d: d["provenance"], "judge", other))
    assert faults(toy) == [
        "another judge made it than the code as it stands: `rankrepro judge --published toy` judges it again"
    ]


def test_verify_prints_a_line_for_each_paper_and_fails_for_one(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = shelf.verify
    monkeypatch.setattr(check, "load_cards", toy_cards)
    monkeypatch.setattr(shelf, "verify", lambda cards: verify(cards, toy.parent))
    check.verify(published=True)
    assert capsys.readouterr().out.count("\n") == 1
    edit(toy, RESULTS, put(lambda d: row(d, "RR"), "value", 0.9))
    with pytest.raises(typer.Exit) as stop:
        check.verify(published=True)
    assert stop.value.exit_code == 1
    assert capsys.readouterr().out.startswith(
        "reports/desk/toy: table 'main': row 'toy.good on vital-mini/fever by RR'"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(lambda d: d, "scale", "rehearsal"), "made at scale rehearsal, not desk: remove it"),
        (put(lambda d: d, "schema", 1), "its files are of version 1"),
        (lambda d: d["papers"].clear(), "no card has this key, or its results are of another"),
        (lambda d: page(d).pop("tables"), "its files are not what their schemas say"),
        (put(lambda d: claim(d, "toy-placebo"), "verdict", "placebo passed"), "claim 'toy-placebo': verdict"),
    ],
)
def test_what_cannot_be_published(toy: Path, change: Callable[[Any], Any], words: str) -> None:
    edit(toy, RESULTS, change)
    assert words in faults(toy)[0]


def test_a_truth_that_was_changed_with_its_hash_is_not_the_published_one(original: Path, tmp_path: Path) -> None:
    results = shutil.copytree(original.parents[2] / "results" / "desk", tmp_path / "results")
    benchmark = results / "benchmarks" / "vital-mini" / "fever"
    (results / "store").mkdir(exist_ok=True)
    assert inspect(results, original.parent)[1] == []
    file = benchmark / "truth" / "qrels.json"
    qrels = json.loads(file.read_text())
    file.write_text(json.dumps({query: dict.fromkeys(grades, 1) for query, grades in list(qrels.items())[1:]}))
    marker = json.loads((benchmark / MARKER).read_text())
    marker["files"]["truth/qrels.json"] = sha256(file)
    (benchmark / MARKER).write_text(json.dumps(marker))
    (line,) = inspect(results, original.parent)[1]
    assert "vital-mini/fever/truth is not the truth that toy was judged against" in line


# --- judged again ----------------------------------------------------------------------------------------------------


def older(folder: Path) -> None:
    """Files as version 2 had them: without clusters, tags, splits, costs, work and material."""

    def strip(units: Any) -> None:
        units["schema"] = 2
        for key in ("benchmarks", "material", "left_out", "costs"):
            del units[key]
        for timing in units["timings"].values():
            del timing["work"]

    edit(folder, UNITS, strip)
    edit(folder, RESULTS, lambda d: d.update(schema=2) or d.pop("provenance"))
    edit(folder, "examples.json", lambda d: d.update(schema=2))


def without_area(text: str = CARD) -> str:
    head, rest = text.split("  - {id: toy-area")
    return head + rest[rest.index("  - {id: toy-faster") :]


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy's card is in no history: let it stand in the last commit."""
    monkeypatch.setattr(shelf, "claims_commit", lambda *_: git("rev-parse", "HEAD"))


@pytest.mark.usefixtures("committed")
def test_a_paper_is_judged_again_from_its_own_units(toy: Path, original: Path, tmp_path: Path) -> None:
    assert shelf.judge_again(KEY, toy_cards(), tmp_path / "no-results", toy.parent) == []
    assert read(toy / UNITS) == read(original / UNITS)
    stricter = toy_cards(CARD.replace("min_effect: 0.02", "min_effect: 0.9"))
    changed = shelf.judge_again(KEY, stricter, tmp_path, toy.parent)
    assert changed == ["toy-quality: reproduced -> not reproduced"]
    assert faults(toy, stricter) == []


@pytest.mark.usefixtures("committed")
def test_files_of_the_older_version_take_clusters_and_tags_from_benchmarks(toy: Path, original: Path) -> None:
    older(toy)
    assert "version 2, not 3: `rankrepro judge --published toy` writes it anew" in faults(toy)[0]
    results = original.parents[2] / "results" / "desk"
    cards = toy_cards(without_area())
    with pytest.raises(ConfigError, match=r"does not hold vital-mini/fever as .*: run `rankrepro int"):
        shelf.judge_again(KEY, cards, toy, toy.parent)
    shelf.judge_again(KEY, cards, results, toy.parent)
    assert faults(toy, cards) == []
    then, now = (page(read(folder / RESULTS)) for folder in (original, toy))
    assert [t for t in now["tables"]] == then["tables"]  # areas and costs stand as they were
    assert now["timings"] == then["timings"]


def test_a_claim_whose_material_is_not_published_is_not_judged_again(toy: Path, original: Path) -> None:
    older(toy)
    before = (toy / RESULTS).read_bytes()
    with pytest.raises(ConfigError, match=r"reads PooledAUC of toy.words on vital-mini/fever.*make reprod"):
        shelf.judge_again(KEY, toy_cards(), original.parents[2] / "results" / "desk", toy.parent)
    assert (toy / RESULTS).read_bytes() == before
