"""The command line on a toy paper that was really run, and on the cards of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankrepro.cards import load_cards
from rankrepro.cli import text
from rankrepro.cli.benchmarks import _users
from tests_support import ROOT, TOY_CARD, Project, card_file, make_project, new_card

COMMANDS = (
    "papers", "show", "explain", "plan", "new", "evaluate", "verify", "judge", "clean", "seconds", "report",
    "benchmarks list", "benchmarks show", "benchmarks export", "artifacts list", "artifacts fetch", "artifacts verify",
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(
    first_run: tuple[Project, subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The toy paper judged at quick and at desk, beside a paper without a method."""
    project = Project(shutil.copytree(first_run[0].folder, tmp_path_factory.mktemp("ran"), dirs_exist_ok=True))
    shutil.copy(card_file(ROOT, "fullrank"), new_card(project.folder, "fullrank"))
    project.run("papers=toy", "scale=desk")
    return project


def run(project: Project, command: str, code: int = 0) -> str:
    """The output of a command; for exit code 1 its error, which must be one line."""
    done = project.python("-m", "rankrepro", *command.split(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    if code == 1 and done.stderr:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr if code else done.stdout


# --- all commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_is_for(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rankrepro", *command.split(), "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2].strip().endswith("."), "the first sentence stands on one line"
    assert str(ROOT) not in done.stdout, "no path of this machine"


def test_internal_commands_are_hidden_and_there(ran: Project) -> None:
    assert "internal" not in run(ran, "--help")
    assert "judge" in run(ran, "internal --help")


AUDIT = """
import sys
from collections import Counter
opened = Counter()
sys.addaudithook(lambda event, args: opened.update([str(args[0])]) if event == "open" else None)
from rankrepro.cli import main
sys.argv = ["rankrepro", "papers"]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = sorted({name.split(".")[0] for name in sys.modules} & HEAVY)
reads = [n for path, n in opened.items() if "/papers/" in path or path.endswith("/results.json")]
print(heavy, len(reads), max(reads), file=sys.stderr)
"""
HEAVY = {"torch", "transformers", "ranx", "pandas", "numpy", "scipy", "mlflow", "numba", "jinja2", "snakemake"}


def test_papers_reads_each_file_once_and_imports_nothing_heavy(ran: Project, tmp_path: Path) -> None:
    """39 papers, 38 of them as large as ICR's card and with a report: `make performance` says how long that takes."""
    project = make_project(tmp_path, ["baselines"])
    card = card_file(ROOT, "icr").read_text()
    report = json.loads((ran.folder / "reports" / "desk" / "toy" / "results.json").read_text())
    for i in range(38):
        key = f"p{i}"
        new_card(tmp_path, key).write_text(card.replace("key: icr", f"key: {key}"))
        file = tmp_path / "reports" / "desk" / key / "results.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(report | {"papers": {key: report["papers"]["toy"]}}))
    done = project.python("-c", AUDIT.replace("HEAVY", repr(HEAVY)))
    assert done.stderr.split() == ["[]", "78", "1"]  # 39 cards, their measured seconds, 38 reports


def test_a_usage_error_is_no_error_of_ours(ran: Project) -> None:
    assert "Missing" in run(ran, "show", code=2)
    assert "No such command 'paper'" in run(ran, "paper", code=2)


def test_what_others_wrote_cannot_steer_a_terminal() -> None:
    assert text.plain("a\x1b[31mred\u202e\nb") == "a\ufffd[31mred\ufffd b"


def test_numbers_are_written_one_way() -> None:
    assert [text.size(n) for n in (0, 999, 1000, 12_345_678, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12 MB",
        "3000 GB",
    ]
    assert text.interval([None, None]) == text.number(None) == text.probability(None) == "–"
    assert text.interval([None, 0.25]) == "[–, 0.250]"
    assert text.probability(0.0004) == "< 0.001"


def test_numbers_stand_to_the_right_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    text.table(("what", "n", "size", "p"), [("a", 1, "1.0 kB", "< 0.001"), ("5 reproduced", 100, "–", "0.250")])
    assert capsys.readouterr().out.splitlines() == [
        "what            n    size        p",
        "a               1  1.0 kB  < 0.001",
        "5 reproduced  100       –    0.250",
    ]


# --- papers, show, explain -------------------------------------------------------------------------------------------


def test_papers_counts_claims_and_verdicts(ran: Project) -> None:
    rows = {r["key"]: r for r in json.loads(run(ran, "papers --json"))}
    assert rows["fullrank"] | {"title": ""} == {
        "key": "fullrank", "family": "llm_rerankers", "year": 2024, "title": "", "link": "https://arxiv.org/abs/2412.14574",
        "method": False, "claims": 5, "scale": "desk", "status": "not run", "verdicts": {}, "controls": {},
    }  # fmt: skip
    assert (rows["toy"]["status"], rows["toy"]["claims"]) == ("judged", 2)
    assert rows["toy"]["verdicts"] == {"reproduced": 1, "not run": 1}  # nothing is timed at desk
    shown = run(ran, "papers --scale quick")
    assert re.search(r"toy +2026 +2 +2 smoke +A toy paper", shown)
    assert re.search(r"fullrank +2024 +5 +not run \(no method yet\)", shown)
    assert "papers: 2, claims: 7, papers run at paper: 0" in run(ran, "papers --family llm_rerankers --scale paper")


def test_a_changed_method_makes_a_report_stale(ran: Project) -> None:
    file = ran.folder / "methods" / "parts" / "toy_words.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n# a comment\n")
        assert "stale" not in run(ran, "papers")
        file.write_text(before.replace("> 3", "> 4"))
        assert re.search(r"toy +2026 +2 +stale: 1 reproduced", run(ran, "papers"))
        assert "claims at desk: stale" in run(ran, "show toy")
        assert "toy" in run(ran, "papers --json") and json.loads(run(ran, "papers --json"))[-1]["status"] == "stale"
    finally:
        file.write_text(before)


def test_a_report_that_cannot_be_planned_any_more_is_stale(ran: Project) -> None:
    card = ran.folder / "papers" / "llm_rerankers" / "toy.yaml"
    before = card.read_text()
    try:
        card.write_text(before.replace("fn: toy.overlap", "fn: toy.gone"))
        assert "stale: 1 reproduced" in run(ran, "papers")
    finally:
        card.write_text(before)


def test_show(ran: Project) -> None:
    shown = run(ran, "show toy")
    assert re.search(r"toy.noise +toy.noise +1 x 12, 2 seeds +1 x 60, 2 seeds", shown)
    assert re.search(r"toy-over-noise +reproduced +0\.\d{3} +\[0\.\d{3}, 0\.\d{3}\] +\S+ ?\S* +60 ", shown)
    assert re.search(r"ceiling of toy.lexical +0\.\d{3} +60 +–", shown)
    assert "make reproduce SCALE=desk PAPERS=toy" in shown
    assert "overlap_over_noise" in run(ran, "show toy --scale quick")
    assert "rankrepro new fullrank" in run(ran, "show fullrank")


def test_every_card_can_be_shown() -> None:
    from rankrepro.cli.papers import show

    for key in load_cards():
        show(key, "paper", ROOT / "reports")


def test_explain(ran: Project) -> None:
    explanation = run(ran, "explain toy-over-noise")
    for line in (
        "superiority: m(overlap) - m(noise)",
        "toy.overlap = toy.overlap (methods/toy.py)",
        "re-ranks the first 5 of lexical",
        "vital-mini/fever: 60 units; batch 2",
        "the 97.5 % interval of the difference lies above 0, and the effect is at least 0.01",
        "verdict at desk: reproduced",
        "with a power of 80 %",
    ):
        assert line in explanation, line
    assert "lacks: timing overlap_over_noise" in run(ran, "explain toy:toy-faster")
    timed = run(ran, "explain toy-faster --scale quick")
    assert "lies below 1" in timed and "5 units; and overlap against itself" in timed
    assert "it has no `expr`" in run(ran, "explain fr-latency")
    data = json.loads(run(ran, "explain toy-over-noise --json"))
    assert data["claim"]["expr"] == "m(overlap) - m(noise)" and data["result"]["n"] == 60


def test_a_claim_of_two_cards_must_be_told_apart(ran: Project) -> None:
    copy = ran.folder / "papers" / "llm_rerankers" / "again.yaml"
    copy.write_text(TOY_CARD.replace("key: toy", "key: again"))
    try:
        assert "say again:toy-over-noise or toy:toy-over-noise" in run(ran, "explain toy-over-noise", code=1)
        assert "again: A toy paper" in run(ran, "explain again:toy-over-noise --scale quick")
    finally:
        copy.unlink()


def test_every_kind_of_claim_of_every_card_can_be_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rankrepro.cli.explain import explain

    for card in load_cards().values():
        one_of_each = {(c.get("kind"), c.get("role"), "timing" in c): c for c in card.claims}
        for claim in one_of_each.values():
            explain(f"{card.key}:{claim['id']}", "desk", reports=tmp_path)
            assert claim["id"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("show ty", "unknown paper 'ty'; did you mean 'toy'?"),
        ("explain toy-over-nois", "unknown claim 'toy-over-nois'; did you mean 'toy-over-noise'?"),
        ("explain ty:toy-over-noise", "unknown paper 'ty'"),
        ("papers --scale dsek", "unknown scale 'dsek'; did you mean 'desk'?"),
        ("papers --family visio", "unknown family 'visio'"),
        ("plan --papers toi", "unknown paper 'toi'; did you mean 'toy'?"),
        ("plan --papers fullrank", "'fullrank' has no method yet"),
        ("benchmarks show vital/fevr", "did you mean 'vital/fever'?"),
        ("artifacts fetch vital-article", "did you mean 'vital-articles'?"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(ran: Project, command: str, message: str) -> None:
    assert message in run(ran, command, code=1)


def test_results_of_another_version_are_refused(ran: Project, tmp_path: Path) -> None:
    file = tmp_path / "desk" / "toy" / "results.json"
    file.parent.mkdir(parents=True)
    data = json.loads((ran.folder / "reports" / "desk" / "toy" / "results.json").read_text())
    file.write_text(json.dumps(data | {"schema": 1}))
    assert "written by another version" in run(ran, f"show toy --reports {tmp_path}", code=1)
    file.write_text("{")
    assert "cannot be read" in run(ran, f"papers --reports {tmp_path}", code=1)


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_tells_what_is_left(ran: Project, tmp_path: Path) -> None:
    plan = json.loads(run(ran, "plan --papers toy --json"))
    (toy,) = plan["papers"]
    assert (toy["cells"], toy["stages"], toy["timings"], toy["left"]) == (4, 0, 1, 0)
    assert sum(j["nodes"] for j in plan["jobs"]) == 5
    fresh = json.loads(run(ran, f"plan --papers toy --json --results {tmp_path}"))
    assert fresh["total"]["left"] == 5 and fresh["total"]["minutes_left"] == fresh["total"]["minutes"]
    assert "5 of 5 results are in" in run(ran, "plan --papers toy")


def test_plan_claims_takes_spreads_from_the_published_interval(ran: Project, tmp_path: Path) -> None:
    measured, *_ = json.loads(run(ran, "plan --papers toy --scale desk --claims --json"))["toy"]
    fresh = json.loads(run(ran, f"plan --papers toy --scale desk --claims --json --reports {tmp_path}"))["toy"]
    assumed, placebo, timing = fresh
    assert (placebo["claim"], placebo["level"]) == ("toy-placebo", 0.001)
    assert (measured["n"], measured["source"], assumed["source"], assumed["sd"]) == (60, "measured", "assumed", 0.3)
    judged = json.loads(run(ran, "explain toy-over-noise --json"))["result"]
    # the judge knows the standard error, the plan reads it off the interval, which t quantiles make wider
    assert judged["detectable"] == pytest.approx(measured["detectable"], rel=0.1)
    assert timing["note"] == "not timed at this scale"
    assert "assumed" in run(ran, f"plan --papers toy --scale desk --claims --reports {tmp_path}")


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_places_a_run_among_our_rows(ran: Project) -> None:
    """The first stage's own run file: equal to its row, and as far from the others as the judge says."""
    file = next((ran.folder / "results" / "desk" / "runs").rglob("toy.lexical-*.trec"))
    command = f"evaluate {file} --benchmark vital-mini/fever --name own"
    data = json.loads(run(ran, f"{command} --json --measure nDCG@10 --measure P@1"))
    assert data["queries"] == {"judged": 60, "of": 854} and data["run"] == "own"
    assert data["warnings"][0].startswith("794 queries have no result in the run")
    rows = {r["arm"]: r for r in data["measures"][0]["rows"]}
    ceilings = {"ceiling of toy.lexical", "ceiling of toy.overlap"}  # of a table's oracle, and of what a claim lets win
    assert set(rows) == {"own", "toy.lexical", "toy.overlap", "toy.noise", *ceilings}
    assert rows["own"]["value"] == rows["toy.lexical"]["value"] and rows["toy.lexical"]["against"]["difference"] == 0
    judged = json.loads((ran.folder / "reports" / "desk" / "toy" / "results.json").read_text())["papers"]["toy"]
    table = {r["arm"]: r for r in judged["tables"][0]["rows"]}
    for arm, row in table.items():
        assert rows[arm]["value"] == pytest.approx(row["value"])
        assert rows[arm]["ci"] == pytest.approx(row["ci"]) and rows[arm]["n"] == row["n"]
    assert rows["toy.noise"]["against"]["difference"] == pytest.approx(
        table["toy.lexical"]["value"] - table["toy.noise"]["value"]
    )
    assert [r["arm"] for r in data["measures"][1]["rows"]] == ["own"], "no row of ours has P@1"

    lines = [line.split(",") for line in run(ran, f"{command} --csv").splitlines()]
    assert len(lines) == 7 and {len(line) for line in lines} == {20}
    assert [line[4] for line in lines if line[3] == "own"] == ["1"]
    shown = run(ran, f"{command} --against toy.noise --measure P@1 --measure nDCG@10")
    assert "no row of ours has P@1" in shown
    assert re.search(r"2? > +own +0\.\d{3} ", shown) and len(re.findall(r" [+-]0\.\d{3} ", shown)) == 1
    assert "did you mean 'toy.noise'" in run(ran, f"{command} --against toy.nois", code=1)
    assert "did you mean 'nDCG@10'" in run(ran, f"{command} --measure nDCG@1O", code=1)
    assert "none of its 60 queries is in lint/rules" in run(ran, f"evaluate {file} --benchmark lint/rules", code=1)


# --- benchmarks, artifacts, verify -----------------------------------------------------------------------------------


def test_benchmarks(ran: Project, tmp_path: Path) -> None:
    assert re.search(r"vital/fever +1069 +10033 ", run(ran, "benchmarks"))
    assert run(ran, "benchmarks") == run(ran, "benchmarks list")
    shown = run(ran, "benchmarks show vital-mini/fever")
    assert "cannot show" in shown and "toy (quick, desk)" in shown
    assert "no document is a copy of another" in shown  # the project has built it
    assert "counted when it is built" in run(ran, "benchmarks show vital/fever")
    run(ran, f"benchmarks export vital-mini/fever {tmp_path / 'beir'}")
    assert len((tmp_path / "beir" / "corpus.jsonl").read_text().splitlines()) == 2000
    assert "has no queries and documents" in run(ran, f"benchmarks export tabular/mini {tmp_path / 't'}", code=1)


def test_stages_are_users_of_a_benchmark() -> None:
    users = list(_users(load_cards().values(), "nq/pairs"))
    assert any(re.match(r"mw_loss for its stages negatives, .*\(desk, paper\)", user) for user in users)
    assert not any(user.startswith("mw_loss (") for user in users), "its arms are on other benchmarks"


def test_artifacts(ran: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = {r["id"]: r for r in json.loads(run(ran, "artifacts list --json"))["artifacts"]}
    assert rows["vital-articles"]["fetched"] is True and rows["vital-articles"]["bytes"] == 4869272
    monkeypatch.setenv("RANKREPRO_CACHE", str(tmp_path))
    assert re.search(r"vital-articles +wheel +4.9 MB +not fetched +CC BY-SA", run(ran, "artifacts"))
    assert "vital-articles: not fetched yet" in run(ran, "artifacts verify")


def test_verify_finds_what_is_damaged(ran: Project) -> None:
    assert "results, benchmarks and runs checked, 0 damaged" in run(ran, "verify")
    store, runs = ran.results / "store", ran.results / "runs"
    output = next(store.glob("*/output.json"))
    manifest = next(f for f in store.glob("*/manifest.json") if f.parent != output.parent)
    trec, truth = next(runs.rglob("*.trec")), next(ran.results.rglob("truth/qrels.json"))
    changed = {f: f.read_text() for f in (output, manifest, trec, truth)}
    try:
        output.write_text(changed[output][:-5])
        manifest.write_text(changed[manifest].replace('"harness": 1', '"harness": 0', 1))
        trec.write_text(changed[trec].replace("Q0", "Q1", 1))
        truth.write_text("{}")
        done = ran.python("-m", "rankrepro", "verify", check=False)
        assert done.returncode == 1
        assert f"{output} is missing or damaged" in done.stdout
        assert f"{manifest.parent}: its manifest describes another result" in done.stdout
        assert "its bytes do not match" in done.stdout and "has changed since it was built" in done.stdout
        assert "quick: 7 results, benchmarks and runs checked, 4 damaged" in done.stdout
    finally:
        for file, content in changed.items():
            file.write_text(content)


def test_verify_published_fails_when_stale(ran: Project) -> None:
    assert "toy: 3 claims and 5 rows follow from the published units" in run(ran, "verify --published")
    file = ran.folder / "methods" / "toy.py"
    before = file.read_text()
    try:
        file.write_text(before.replace("2**32", "2**33"))
        done = ran.python("-m", "rankrepro", "verify", "--published", check=False)
        assert done.returncode == 1 and "reports/desk/toy: stale" in done.stdout
    finally:
        file.write_text(before)
