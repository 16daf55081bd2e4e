"""The documentation, taken literally: blocks of code are run in a copy of the project, and names are checked."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cells
import pytest
import yaml

from rankrepro import cards, measure_names
from rankrepro.card_form import expanded
from rankrepro.cell import OUTPUTS, Cell
from tests_support import ROOT, Project, make_project

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README, CONTRACT = ROOT / "README.md", ROOT / "docs" / "contract.md"


def section(title: str, page: Path = README) -> str:
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project as a reader has it after the installation: `make` finds its environment ready."""
    project = make_project(tmp_path, ["baselines", "icr"])
    for name in ("Makefile", "requirements.lock", "tests/conftest.py", "tests/tests_support.py", "tests/cells.py",
                 "tests/methods/conftest.py"):  # fmt: skip
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name, module in (("python", ""), ("snakemake", "-m snakemake"), ("rankrepro", "-m rankrepro")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        tool.chmod(0o755)
    (tmp_path / ".venv" / ".installed").write_text(f"{tmp_path}\n")
    return project


def masked(text: str) -> str:
    """Digits, which may differ in the last place between processors, as zeros; blanks as one."""
    return re.sub(r"\d", "0", " ".join(text.split()))


def follow(project: Project, text: str) -> str:
    """Run the blocks of a page in their order; what the last command printed.

    Shell is run as it is. Python and YAML go into the file that is named before them; Python without a file is run, a
    part of a card without a file is read. Text is compared with what the last command printed.
    """
    env = project.env() | {"PATH": f"{project.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    here = env | {"PYTHONPATH": os.pathsep.join([str(project.folder), str(project.folder / "tests")])}
    output, end = "", 0
    for block in BLOCK.finditer(text):
        language, code, before = block[1], block[2], text[end : block.start()]
        end = block.end()
        named = re.findall(r"`([\w/]+\.(?:py|yaml))`[^`]*$", before)
        if language in ("python", "yaml") and named:
            file = project.folder / named[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        elif language == "yaml":
            expanded(yaml.safe_load(code), "the documentation")
        elif language == "text":
            for line in code.splitlines():
                assert masked(line) in masked(output), f"the documentation shows '{line}', but:\n{output}"
        else:
            command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euc", code]
            done = subprocess.run(
                command, cwd=project.folder, env=here if language == "python" else env,
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            output = done.stdout
    return output


def test_the_reader_plugs_in_a_method_and_judges_a_run(project: Project) -> None:
    follow(project, section("Plug in your own method"))
    shown = project.python("-m", "rankrepro", "show", "mine").stdout
    assert re.search(r"mine-placebo \(placebo\) +placebo failed as it must", shown)

    follow(project, section("First-stage runs and benchmarks for other tools"))

    evaluated = follow(project, section("Judge a run file"))
    assert "854 of 854 queries" in evaluated and "215 queries are of other splits" in evaluated
    for measure in ("nDCG@10", "RR"):
        table = evaluated.split(f"\n{measure}, our rows")[1].split("\n\n")[0]
        places = re.findall(r"^ *(\d)( >)? +(my|mine\.rerank|baselines\.random) +0\.\d", table, re.MULTILINE)
        assert [name for _, _, name in places] == ["mine.rerank", "my", "baselines.random"], evaluated
        assert [name for _, mark, name in places if mark] == ["my"]


def test_the_worked_example_of_the_contract_runs(project: Project) -> None:
    follow(project, CONTRACT.read_text())
    judged = json.loads((project.results / "judged" / "late" / "results.json").read_text())["papers"]["late"]
    assert [t["name"] for t in judged["timings"]] == ["late_over_one_vector"]
    assert {c["verdict"] for c in judged["claims"]} == {"smoke"}


def test_the_contract_names_what_there_is() -> None:
    page = CONTRACT.read_text()
    every = cards.load_cards()["baselines"]
    rows = {f"baselines.{row}" for arm in every.arms for row in every.rows(arm)}
    assert rows == set(re.findall(r"`(baselines\.\w+)`", page))

    controls = {f"{f.stem}.{name}" for f in (ROOT / "methods" / "controls").glob("[!_]*.py") for name in of_cells(f)}
    named = set(re.findall(r"`(\w+\.\w+)`", section("Shared controls", CONTRACT)))
    assert named - rows - {"candidates.from"} == controls

    parts = {f"{f.parent.name}.{f.stem}" for f in (ROOT / "methods" / "parts").glob("*/[!_]*.py")}
    assert parts == set(re.findall(r"`(\w+\.\w+)`", re.sub(r"\|[^|]*\|$", "", section("Parts", CONTRACT), flags=re.M)))

    fixtures = functions(ROOT / "tests" / "methods" / "conftest.py")
    table = re.findall(r"^\| (`.*?) \|", section("Tests", CONTRACT), re.M)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) == set(fixtures)
    assert all(f"{name}=" in page for name, p in inspect.signature(cells.make_cell).parameters.items() if p.kind == 3)

    own = {name for name in (*vars(Cell), *Cell.__dataclass_fields__) if not name.startswith("_")}
    table = " ".join(re.findall(r"^\| (`.*?`) \|", section("The cell", CONTRACT), re.M))
    assert own <= set(re.findall(r"\w+", table)), own - set(re.findall(r"\w+", table))
    for output in OUTPUTS.values():
        assert f"| `{output.__name__}` |" in page
    for name in re.findall(r"`([^`]+)`", section("Measures", CONTRACT)):
        if not re.search(r"fact:|^m\(|/", name):
            measure_names.check(name)


def of_cells(file: Path) -> list[str]:
    """Names of the public functions of a file that a card can name: they take a cell, and parameters by name."""
    tree = ast.parse(file.read_text())
    defined = (n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))
    return [n.name for n in defined if [a.arg for a in n.args.args] == ["cell"]]


def functions(file: Path) -> list[str]:
    """Names of the public functions of a file."""
    tree = ast.parse(file.read_text())
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/contract.md", "docs/cluster.md"])
def test_what_a_page_links_to_exists(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", file.read_text()):
        path, _, anchor = target.partition("#")
        other = (file.parent / path).resolve() if path else file
        assert other.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", other.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}, target


def test_every_command_of_the_table_exists() -> None:
    named = re.findall(r"^\| `rankrepro (\w+)", section("The command line"), re.MULTILINE)
    text = subprocess.run(
        [sys.executable, "-m", "rankrepro", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    listed = re.findall(r"^  (\w+)  ", text.split("Commands:")[1], re.MULTILINE)
    assert sorted(named) == sorted(listed)


def test_the_verdicts_it_tells_are_the_published_ones() -> None:
    lines = re.findall(
        r"^\| \[(\w+)\]\(reports/desk/\w+/tables\.md\).*\| (.*) \|$", (ROOT / "README.md").read_text(), re.M
    )
    published = {f.parent.name for f in (ROOT / "reports" / "desk").glob("*/results.json")}
    assert lines and {key for key, _ in lines} <= published  # more may be published than README tells of
    papers = {key for key, card in cards.load_cards().items() if card.family != "controls"}
    run, every = map(int, re.findall(r"(\d+) of (\d+) papers have run", README.read_text())[0])
    assert run <= len(published & papers) and every <= len(papers)
    for key, words in lines:
        page = json.loads((ROOT / "reports" / "desk" / key / "results.json").read_text())["papers"][key]
        verdicts = [c["verdict"] for c in page["claims"] if c["role"] == "claim"]
        assert words == ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
